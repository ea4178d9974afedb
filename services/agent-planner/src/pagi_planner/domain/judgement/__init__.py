"""What rules and judge models say of a prompt and of an answer."""
