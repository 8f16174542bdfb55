"""What a study is: its value, its parameters, its result, and the settings around it."""
