CREATE TABLE birds (id bigserial PRIMARY KEY, name text NOT NULL);
