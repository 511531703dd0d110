"""placeholder"""

if __name__ == "llm":
    raise ImportError("import nashward.llm, not llm: the folder is a part of the package nashward (pip install -e .)")
