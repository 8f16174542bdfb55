"""What an attacker or an auditor can find out."""
