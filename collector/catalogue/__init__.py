"""What is known of each operation: parameters, answers, quotas, prices. Nothing here calls one."""
