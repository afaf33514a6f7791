ALTER TABLE birds ADD COLUMN ringed_at timestamp(0);
