-- The collector's own account on a ClickHouse server: everything in the database pai, nothing outside it.
-- Run by somebody who may manage access; every statement may be repeated:
--
--     clickhouse-client --queries-file writer.sql --param_password_sha256=...
--
-- The parameter is the SHA-256 of the password, 64 hexadecimal digits, so that the password itself stands in no file,
-- no command line and no log of the server.
CREATE ROLE IF NOT EXISTS pai_writer;

-- Tables and views are made and changed by the migrations; a view is replaced, so it is dropped too.
GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, TRUNCATE, OPTIMIZE
    ON pai.* TO pai_writer;

-- Sizes of tables, and what is behind in a cluster. The server shows the rows of tables that the account may see.
GRANT SELECT ON system.parts TO pai_writer;
GRANT SELECT ON system.clusters TO pai_writer;
GRANT SELECT ON system.replicas TO pai_writer;
GRANT SELECT ON system.distribution_queue TO pai_writer;

CREATE USER IF NOT EXISTS collector IDENTIFIED WITH sha256_hash BY {password_sha256:String} DEFAULT ROLE pai_writer;
-- A password that has changed is changed here too.
ALTER USER collector IDENTIFIED WITH sha256_hash BY {password_sha256:String};
GRANT pai_writer TO collector;
