/// Two databases in the manner of well-known samples, with nearly everything that a table can have.
enum SampleDatabase: CaseIterable, Sendable {
    case music, films

    /// The script that makes the database.
    var script: String { self == .music ? Self.musicScript : Self.filmsScript }

    /// A shop for music: keys, a table that references itself, names in mixed case.
    private static let musicScript = """
        CREATE TABLE "Artist" ("ArtistId" int PRIMARY KEY, "Name" varchar(120));
        CREATE TABLE "Album" ("AlbumId" int PRIMARY KEY, "Title" varchar(160) NOT NULL, "ArtistId" int NOT NULL);
        CREATE TABLE "Genre" ("GenreId" int PRIMARY KEY, "Name" varchar(120));
        CREATE TABLE "MediaType" ("MediaTypeId" int PRIMARY KEY, "Name" varchar(120));
        CREATE TABLE "Track" ("TrackId" int PRIMARY KEY, "Name" varchar(200) NOT NULL, "AlbumId" int,
            "MediaTypeId" int NOT NULL, "GenreId" int, "Composer" varchar(220), "Milliseconds" int NOT NULL, "Bytes" int,
            "UnitPrice" numeric(10, 2) NOT NULL);
        CREATE TABLE "Playlist" ("PlaylistId" int PRIMARY KEY, "Name" varchar(120));
        CREATE TABLE "PlaylistTrack" ("PlaylistId" int, "TrackId" int, PRIMARY KEY ("PlaylistId", "TrackId"));
        CREATE TABLE "Employee" ("EmployeeId" int PRIMARY KEY, "LastName" varchar(20) NOT NULL, "ReportsTo" int,
            "BirthDate" timestamp, "Email" varchar(60));
        CREATE TABLE "Customer" ("CustomerId" int PRIMARY KEY, "FirstName" varchar(40) NOT NULL, "Company" varchar(80),
            "SupportRepId" int, "Email" varchar(60) NOT NULL);
        CREATE TABLE "Invoice" ("InvoiceId" int PRIMARY KEY, "CustomerId" int NOT NULL, "InvoiceDate" timestamp NOT NULL,
            "Total" numeric(10, 2) NOT NULL);
        CREATE TABLE "InvoiceLine" ("InvoiceLineId" int PRIMARY KEY, "InvoiceId" int NOT NULL, "TrackId" int NOT NULL,
            "UnitPrice" numeric(10, 2) NOT NULL, "Quantity" int NOT NULL);
        INSERT INTO "Artist" SELECT n, 'Artist ' || n || E'\\t\\\\.' FROM generate_series(1, 50) n;
        INSERT INTO "Album" SELECT n, E'Album\\n\\\\.\\n' || n, 1 + n % 50 FROM generate_series(1, 100) n;
        INSERT INTO "Genre" VALUES (1, 'Rock'), (2, NULL);
        INSERT INTO "MediaType" VALUES (1, 'MPEG'), (2, 'Æther');
        INSERT INTO "Track" SELECT n, 'Track ' || n, 1 + n % 100, 1 + n % 2, 1 + n % 2, NULL, n * 1000, n, 0.99
            FROM generate_series(1, 500) n;
        INSERT INTO "Playlist" VALUES (1, 'Music'), (2, 'Empty');
        INSERT INTO "PlaylistTrack" SELECT 1, n FROM generate_series(1, 200) n;
        INSERT INTO "Employee" VALUES (1, 'Adams', NULL, '1962-02-18', 'a@x'), (2, 'Edwards', 1, NULL, NULL), (3, 'Park', 2, NULL, '');
        INSERT INTO "Customer" SELECT n, 'Name ' || n, NULL, 1 + n % 3, n || '@x' FROM generate_series(1, 30) n;
        INSERT INTO "Invoice" SELECT n, 1 + n % 30, timestamp '2026-01-01' + n * interval '1 day', n FROM generate_series(1, 60) n;
        INSERT INTO "InvoiceLine" SELECT n, 1 + n % 60, 1 + n % 500, 0.99, 1 FROM generate_series(1, 200) n;
        ALTER TABLE "Album" ADD FOREIGN KEY ("ArtistId") REFERENCES "Artist";
        ALTER TABLE "Track" ADD FOREIGN KEY ("AlbumId") REFERENCES "Album", ADD FOREIGN KEY ("GenreId") REFERENCES "Genre",
            ADD FOREIGN KEY ("MediaTypeId") REFERENCES "MediaType";
        ALTER TABLE "PlaylistTrack" ADD FOREIGN KEY ("PlaylistId") REFERENCES "Playlist",
            ADD FOREIGN KEY ("TrackId") REFERENCES "Track";
        ALTER TABLE "Employee" ADD FOREIGN KEY ("ReportsTo") REFERENCES "Employee";
        ALTER TABLE "Customer" ADD FOREIGN KEY ("SupportRepId") REFERENCES "Employee";
        ALTER TABLE "Invoice" ADD FOREIGN KEY ("CustomerId") REFERENCES "Customer";
        ALTER TABLE "InvoiceLine" ADD FOREIGN KEY ("InvoiceId") REFERENCES "Invoice", ADD FOREIGN KEY ("TrackId") REFERENCES "Track";
        CREATE INDEX "IFK_AlbumArtistId" ON "Album" ("ArtistId");
        """

    /// A shop for films: types, domains, functions, triggers, partitions, inheritance, policies and the like.
    private static let filmsScript = """
        CREATE TYPE mpaa_rating AS ENUM ('G', 'PG', 'PG-13', 'R', 'NC-17');
        CREATE DOMAIN year AS integer CHECK (VALUE >= 1901 AND VALUE <= 2155);
        COMMENT ON DOMAIN year IS 'a year';
        CREATE TYPE place AS (street text, number int);
        CREATE TYPE span AS RANGE (subtype = float8);
        CREATE COLLATION plain (locale = 'C');
        CREATE SEQUENCE shared_id START 1000;
        CREATE FUNCTION last_updated() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.last_update = now(); RETURN NEW; END';
        CREATE FUNCTION full_name(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || '' '' || $2';
        CREATE TEXT SEARCH CONFIGURATION films (COPY = pg_catalog.english);
        CREATE TABLE actor (actor_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL,
            name text GENERATED ALWAYS AS (first_name || ' ' || last_name) STORED, last_update timestamptz NOT NULL DEFAULT now());
        CREATE TABLE category (category_id serial PRIMARY KEY, name text NOT NULL COLLATE plain UNIQUE);
        CREATE TABLE country (country_id serial PRIMARY KEY, country text NOT NULL);
        CREATE TABLE city (city_id serial PRIMARY KEY, city text NOT NULL, country_id int NOT NULL REFERENCES country);
        CREATE TABLE address (address_id serial PRIMARY KEY, address place, city_id int NOT NULL REFERENCES city, phone text);
        CREATE TABLE language (language_id serial PRIMARY KEY, name char(20) NOT NULL);
        CREATE TABLE film (film_id int DEFAULT nextval('shared_id') PRIMARY KEY, title text NOT NULL, description text,
            release_year year, language_id int NOT NULL REFERENCES language, original_language_id int REFERENCES language,
            length smallint CHECK (length > 0), rating mpaa_rating DEFAULT 'G', special_features text[],
            fulltext tsvector NOT NULL, last_update timestamptz NOT NULL DEFAULT now());
        CREATE TABLE film_actor (actor_id int REFERENCES actor, film_id int REFERENCES film, PRIMARY KEY (actor_id, film_id));
        CREATE TABLE film_category (film_id int REFERENCES film, category_id int REFERENCES category, PRIMARY KEY (film_id, category_id));
        CREATE TABLE store (store_id serial PRIMARY KEY, manager_staff_id int NOT NULL, address_id int NOT NULL REFERENCES address);
        CREATE TABLE staff (staff_id serial PRIMARY KEY, first_name text, last_name text, store_id int NOT NULL, picture bytea);
        CREATE TABLE inventory (inventory_id serial PRIMARY KEY, film_id int NOT NULL REFERENCES film, store_id int NOT NULL);
        CREATE TABLE customer (customer_id serial PRIMARY KEY, store_id int NOT NULL, email text, active boolean DEFAULT true, address_id int);
        CREATE TABLE rental (rental_id serial PRIMARY KEY, period tstzrange NOT NULL, inventory_id int NOT NULL, customer_id int NOT NULL,
            EXCLUDE USING gist (period WITH &&) WHERE (inventory_id = 0));
        CREATE TABLE payment (payment_id bigint GENERATED BY DEFAULT AS IDENTITY, customer_id int NOT NULL, amount numeric(5, 2) NOT NULL,
            payment_date timestamptz NOT NULL, PRIMARY KEY (payment_id, payment_date, customer_id)) PARTITION BY RANGE (payment_date);
        CREATE TABLE payment_01 PARTITION OF payment FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE payment_02 PARTITION OF payment FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (customer_id);
        CREATE TABLE payment_02_one PARTITION OF payment_02 FOR VALUES IN (1);
        CREATE TABLE payment_02_rest PARTITION OF payment_02 DEFAULT;
        CREATE TABLE payment_rest PARTITION OF payment DEFAULT;
        CREATE TABLE review (film int, rating mpaa_rating NOT NULL, words text) PARTITION BY HASH (rating);
        CREATE TABLE review_0 PARTITION OF review FOR VALUES WITH (MODULUS 3, REMAINDER 0);
        CREATE TABLE review_1 PARTITION OF review FOR VALUES WITH (MODULUS 3, REMAINDER 1);
        CREATE TABLE review_2 PARTITION OF review FOR VALUES WITH (MODULUS 3, REMAINDER 2);
        CREATE TABLE event (id serial PRIMARY KEY, at timestamptz DEFAULT now(), what jsonb);
        CREATE TABLE event_login (host inet) INHERITS (event);
        CREATE TABLE event_error (code int CHECK (code > 0), heat span) INHERITS (event);
        CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, value json);
        CREATE TABLE nothing ();
        INSERT INTO actor (first_name, last_name) SELECT 'A' || n, 'B' || n FROM generate_series(1, 40) n;
        INSERT INTO category (name) VALUES ('Action'), ('É');
        INSERT INTO country (country) VALUES ('France'), ('Chad');
        INSERT INTO city (city, country_id) VALUES ('Paris', 1), ('Abéché', 2);
        INSERT INTO address (address, city_id, phone) SELECT ('Rue "', n)::place, 1 + n % 2, '5' FROM generate_series(1, 20) n;
        INSERT INTO language (name) VALUES ('English'), ('Italian');
        INSERT INTO film (title, description, release_year, language_id, length, rating, special_features, fulltext)
            SELECT 'Film ' || n, E'a\\\\.\\nb', 2000 + n % 20, 1, 90, (ARRAY['G', 'PG', 'R'])[1 + n % 3]::mpaa_rating, ARRAY['x', NULL, 'y,z'],
                to_tsvector('pg_catalog.english', 'Film ' || n) FROM generate_series(1, 60) n;
        INSERT INTO film_actor SELECT n, 1000 + n FROM generate_series(1, 40) n;
        INSERT INTO film_category SELECT 1000 + n, 1 FROM generate_series(1, 40) n;
        INSERT INTO store (manager_staff_id, address_id) VALUES (1, 1), (2, 2);
        INSERT INTO staff (first_name, last_name, store_id, picture) VALUES ('M', 'H', 1, '\\x89504e47'), ('J', 'S', 2, NULL);
        INSERT INTO inventory (film_id, store_id) SELECT 1000 + n, 1 + n % 2 FROM generate_series(1, 50) n;
        INSERT INTO customer (store_id, email, address_id) SELECT 1, n || '@x', n FROM generate_series(1, 20) n;
        INSERT INTO rental (period, inventory_id, customer_id) SELECT tstzrange('2026-01-01', NULL), n, 1 FROM generate_series(1, 30) n;
        INSERT INTO payment (customer_id, amount, payment_date) SELECT n % 3, n, timestamptz '2026-01-10 UTC' + n * interval '1 day'
            FROM generate_series(1, 80) n;
        INSERT INTO review SELECT n, (ARRAY['G', 'PG', 'PG-13', 'R', 'NC-17'])[1 + n % 5]::mpaa_rating, 'w' FROM generate_series(1, 50) n;
        INSERT INTO event (what) VALUES ('{"a": 1}'), (NULL);
        INSERT INTO event_login (what, host) VALUES ('{}', '10.0.0.1');
        INSERT INTO event_error (what, code, heat) VALUES ('[]', 5, '[1.5,2.5)');
        INSERT INTO cache VALUES ('k', '{"a":  1}');
        INSERT INTO nothing SELECT FROM generate_series(1, 3);
        ALTER TABLE staff ADD FOREIGN KEY (store_id) REFERENCES store;
        ALTER TABLE store ADD FOREIGN KEY (manager_staff_id) REFERENCES staff;
        ALTER TABLE inventory ADD FOREIGN KEY (store_id) REFERENCES store NOT VALID;
        CREATE TRIGGER last_updated BEFORE UPDATE ON film FOR EACH ROW EXECUTE FUNCTION last_updated();
        CREATE TRIGGER fulltext BEFORE INSERT OR UPDATE ON film FOR EACH ROW
            EXECUTE FUNCTION tsvector_update_trigger('fulltext', 'pg_catalog.english', 'title', 'description');
        CREATE TRIGGER last_updated BEFORE UPDATE ON actor FOR EACH ROW EXECUTE FUNCTION last_updated();
        CREATE INDEX film_fulltext ON film USING gist (fulltext);
        CREATE INDEX film_words ON film USING gin (to_tsvector('films', description));
        CREATE INDEX actor_name ON actor (full_name(first_name, last_name));
        CREATE INDEX customer_active ON customer (email) WHERE active;
        CREATE STATISTICS film_stats (dependencies) ON release_year, length FROM film;
        ALTER TABLE customer ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON customer USING (email = full_name('x', CURRENT_USER::text));
        GRANT SELECT ON film, customer TO PUBLIC;
        GRANT UPDATE (email) ON customer TO PUBLIC;
        COMMENT ON TABLE film IS 'a film; "quoted"';
        COMMENT ON COLUMN film.rating IS 'how it is rated';
        COMMENT ON TRIGGER fulltext ON film IS 'words';
        """
}
