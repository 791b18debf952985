-- purpose: the last migration that the tables have had
SELECT max(done.version) AS version FROM migrations AS done
