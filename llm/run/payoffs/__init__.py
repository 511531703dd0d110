"""The payoffs of the responses of a Step, under one objective or several, and which responses are fitted."""
