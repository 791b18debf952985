-- purpose: time zone of times whose type names none
SELECT timezone() AS time_zone
