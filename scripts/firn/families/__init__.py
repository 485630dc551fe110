"""What the job types of one family have in common: parameters, what they read, what they write."""
