"""Small judges that need no votes: rules on the text, and the similarity of a prompt and its response."""
