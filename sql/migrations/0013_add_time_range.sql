-- Where the key begins with the hour and ends with the time itself, the engine takes a condition on `time` for one on
-- the end of the key, and leaves out no hours by it. The least and the greatest time of each granule do that.
ALTER TABLE pai.syslogs ADD INDEX IF NOT EXISTS time_range time TYPE minmax GRANULARITY 1;

ALTER TABLE pai.events ADD INDEX IF NOT EXISTS time_range time TYPE minmax GRANULARITY 1;
