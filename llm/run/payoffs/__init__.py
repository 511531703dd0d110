"""What the responses of a Step earn, of one objective or of several, and which of them are fitted."""
