"""What is asked: questions about people, with and without their portraits, and where such questions come from."""
