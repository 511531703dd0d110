"""Whether an oracle keeps the promises of the protocol."""
