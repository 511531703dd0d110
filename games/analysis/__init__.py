"""What a payoff table says of its actions: ratings, social choice, cycles, leaderboards, dueling bandits."""
