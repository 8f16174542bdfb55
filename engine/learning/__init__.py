"""What learns: the DP-SGD step, trainers, networks and fixed features."""
