"""What is wrong with a judge: measures of its biases, its noise and its agreement, and what these cost."""
