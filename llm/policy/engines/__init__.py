"""Serving engines as the source of responses: servers that somebody started, and vLLM as a child of this process."""
