"""What this machine measures of the collector. Figures are ratios or come from the service's own count."""
