ALTER TABLE birds ADD COLUMN name text;
