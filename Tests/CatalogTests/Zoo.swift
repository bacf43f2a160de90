import Catalog
import Postgres
import TestSupport

/// A schema with at least one object of every kind, and rows in its tables.
enum Zoo {
    static let template = DatabaseTemplate("template_zoo") { settings in
        let server = try await ZooServer.current
        try await Connection.opened(settings) { connection in
            try await connection.with { connection in
                // Belongs to the whole cluster, and cannot be made in a block.
                if try connection.query("SELECT 1 FROM pg_tablespace WHERE spcname = 'zoo_space'").isEmpty {
                    try connection.execute("SET allow_in_place_tablespaces = on")
                    try connection.execute("CREATE TABLESPACE zoo_space LOCATION ''")
                }
                try connection.execute(server.adapted(sql))
                try connection.execute(views)
                try connection.execute(trigger)
                try connection.execute(publication)
                for part in server.newer { try connection.execute(part.sql) }
            }
        }
    }

    static let views = """
        CREATE VIEW zoo.birds WITH (security_barrier = true) AS
            SELECT id, name AS title, size, zoo.doubled(keeper) AS twice FROM zoo.animals WHERE kind = 'bird';
        COMMENT ON COLUMN zoo.birds.title IS 'as the keeper calls it';
        CREATE VIEW zoo.small_birds AS SELECT * FROM zoo.birds WHERE size = 'small';
        GRANT SELECT ON zoo.birds TO zoo_visitor
        """

    static let trigger = """
        CREATE TRIGGER touched BEFORE UPDATE OF name ON zoo.animals FOR EACH ROW
            WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION zoo.touch()
        """

    static let publication =
        "CREATE PUBLICATION zoo_news FOR TABLE zoo.animals (id, name) WHERE (id > 3), ONLY zoo.parents"

    private static let sql = #"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zoo keeper') THEN CREATE ROLE "zoo keeper"; END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zoo_visitor') THEN CREATE ROLE zoo_visitor; END IF;
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zoo_director') THEN
                CREATE ROLE zoo_director SUPERUSER;
            END IF;
        END $$;
        SELECT set_config('search_path', 'pg_catalog', false);
        CREATE SCHEMA zoo;
        COMMENT ON SCHEMA zoo IS 'animals: all of them';
        GRANT USAGE ON SCHEMA zoo TO zoo_visitor;
        CREATE EXTENSION pg_trgm WITH SCHEMA zoo;
        CREATE EXTENSION file_fdw;
        CREATE ACCESS METHOD zoo_heap TYPE TABLE HANDLER heap_tableam_handler;

        CREATE COLLATION zoo.german (provider = icu, locale = 'de-DE');
        CREATE COLLATION zoo.plain (lc_collate = 'C', lc_ctype = 'C');
        CREATE COLLATION zoo.posix (provider = libc, locale = 'C');
        CREATE TYPE zoo.spare AS ENUM ('a', 'b');
        CREATE DOMAIN zoo.code AS varchar(5) COLLATE "C";
        CREATE TYPE zoo.alone AS (a integer, b text);
        CREATE TYPE zoo.spans AS RANGE (SUBTYPE = integer);
        CREATE TYPE zoo.texts AS RANGE (SUBTYPE = text, COLLATION = "C");
        CREATE TYPE zoo.size AS ENUM ('small', 'it''s big', 'huge');
        CREATE DOMAIN zoo.weight AS numeric(8, 2) DEFAULT 1.0 CONSTRAINT positive CHECK (VALUE > 0);
        CREATE TYPE zoo.place AS (house text, "the box" integer);
        CREATE TYPE zoo.lone AS (a integer, b text COLLATE "C");
        CREATE FUNCTION zoo.distance(double precision, double precision) RETURNS double precision
            LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2';
        CREATE TYPE zoo.heights AS RANGE (SUBTYPE = double precision, SUBTYPE_DIFF = zoo.distance);
        CREATE TEXT SEARCH TEMPLATE zoo.other_simple (INIT = dsimple_init, LEXIZE = dsimple_lexize);
        CREATE TEXT SEARCH PARSER zoo.other_parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,
            LEXTYPES = prsd_lextype, HEADLINE = prsd_headline);
        CREATE TEXT SEARCH DICTIONARY zoo.idle (TEMPLATE = pg_catalog.simple);
        CREATE TEXT SEARCH DICTIONARY zoo.plain (TEMPLATE = pg_catalog.simple, STOPWORDS = 'english');
        CREATE TEXT SEARCH CONFIGURATION zoo.words (PARSER = pg_catalog."default");
        ALTER TEXT SEARCH CONFIGURATION zoo.words ADD MAPPING FOR word, asciiword WITH zoo.plain;
        CREATE SERVER zoo_files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN DATA WRAPPER zoo_wrapper;
        CREATE SERVER zoo_wrapped FOREIGN DATA WRAPPER zoo_wrapper OPTIONS (host 'a');
        CREATE SERVER zoo_other FOREIGN DATA WRAPPER file_fdw;
        CREATE USER MAPPING FOR zoo_visitor SERVER zoo_wrapped OPTIONS (user 'a');

        CREATE SEQUENCE zoo.tickets START 10 INCREMENT 5 CACHE 2;
        CREATE TABLE zoo.keepers (
            id serial PRIMARY KEY, name text NOT NULL, boss integer REFERENCES zoo.keepers, number integer UNIQUE);
        CREATE TABLE zoo.other_keepers (id integer PRIMARY KEY, remark text DEFAULT 'none');
        INSERT INTO zoo.other_keepers VALUES (1), (2);
        INSERT INTO zoo.keepers (name, boss, number) VALUES ('Anna', NULL, 1), ('Bert', 1, 2);
        CREATE TABLE zoo.animals (
            id bigint GENERATED ALWAYS AS IDENTITY (START WITH 5) PRIMARY KEY,
            name varchar(40) NOT NULL DEFAULT 'nobody',
            kind text COLLATE "C",
            size zoo.size DEFAULT 'small',
            weight zoo.weight,
            place zoo.place,
            height zoo.heights,
            born date,
            born_year integer GENERATED ALWAYS AS (extract(year FROM born)) STORED,
            keeper integer,
            notes text,
            tags text[],
            CONSTRAINT known_kind CHECK (kind IN ('bird', 'fish')),
            CONSTRAINT named UNIQUE (name, born) INCLUDE (kind),
            CONSTRAINT kept FOREIGN KEY (keeper) REFERENCES zoo.keepers (id) ON DELETE SET NULL,
            CONSTRAINT apart EXCLUDE USING gist (height WITH &&)
        );
        INSERT INTO zoo.animals (name, kind, size, weight, place, height, born, keeper, notes, tags) VALUES
            ('Emil', 'bird', 'small', 2.5, ('A', 1), '[1,2)', '2020-02-03', 1, 'sings', '{a,b}'),
            ('Fritz', 'fish', 'it''s big', 9, ('B', 2), '[3,4)', '2021-02-03', 2, NULL, NULL);
        COMMENT ON TABLE zoo.animals IS E'who lives here\nand eats';
        COMMENT ON COLUMN zoo.animals.name IS 'what it hears to';
        COMMENT ON CONSTRAINT known_kind ON zoo.animals IS 'no others';
        ALTER TABLE zoo.animals ALTER COLUMN notes SET STORAGE external, ALTER COLUMN notes SET STATISTICS 50,
            ALTER COLUMN kind SET (n_distinct = 2), ALTER COLUMN notes SET COMPRESSION pglz;
        GRANT SELECT, INSERT ON zoo.animals TO zoo_visitor;
        GRANT SELECT ON zoo.animals TO "zoo keeper" WITH GRANT OPTION;
        GRANT UPDATE (name) ON zoo.animals TO zoo_visitor;
        CREATE INDEX animals_by_kind ON zoo.animals USING btree (lower(kind) text_pattern_ops DESC NULLS LAST, born)
            INCLUDE (name) WITH (fillfactor = 80) WHERE kind IS NOT NULL;
        CREATE UNIQUE INDEX animals_once ON zoo.animals (name, kind, (born_year + 1));
        ALTER INDEX zoo.animals_once ALTER COLUMN 3 SET STATISTICS 77;
        COMMENT ON INDEX zoo.animals_by_kind IS 'found fast';
        CREATE STATISTICS zoo.together (dependencies) ON kind, born FROM zoo.animals;
        CREATE TABLE zoo."Odd ""Name""" ("a b" integer, "C" text, d integer);
        INSERT INTO zoo."Odd ""Name""" VALUES (1, 'x', 2);
        CREATE TABLE zoo.parents (id integer, note text) WITH (autovacuum_enabled = true);
        CREATE TABLE zoo.other_parents (extra integer);
        CREATE TABLE zoo.children (age integer) INHERITS (zoo.parents);
        CREATE TABLE zoo.typed OF zoo.lone;
        CREATE TABLE zoo.visits (at date NOT NULL, who text, n integer) PARTITION BY RANGE (at);
        CREATE TABLE zoo.visits_2024 PARTITION OF zoo.visits FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        CREATE TABLE zoo.visits_2025 PARTITION OF zoo.visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE INDEX visits_by_who ON zoo.visits (who);
        INSERT INTO zoo.visits VALUES ('2024-05-06', 'me', 1), ('2025-05-06', 'you', 2);
        CREATE FOREIGN TABLE zoo.passwords (line text) SERVER zoo_files OPTIONS (filename '/etc/hostname');

        CREATE FUNCTION zoo.count_animals(kind text DEFAULT 'bird', OUT n bigint) RETURNS bigint
            LANGUAGE sql STABLE PARALLEL SAFE SET search_path = zoo, pg_temp SET work_mem = '8MB'
            AS $$ SELECT count(*) FROM zoo.animals a WHERE a.kind = $1 $$;
        CREATE FUNCTION zoo.many() RETURNS SETOF integer LANGUAGE sql ROWS 10 COST 20 AS 'SELECT 1';
        CREATE FUNCTION zoo.doubled(a integer) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC
            SELECT a * 2;
        END;
        CREATE PROCEDURE zoo.feed(INOUT food integer) LANGUAGE plpgsql AS $$ BEGIN food := food - 1; END $$;
        CREATE AGGREGATE zoo.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
        CREATE FUNCTION zoo.joined(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || $2';
        CREATE OPERATOR zoo.<+> (FUNCTION = zoo.joined, LEFTARG = text, RIGHTARG = text);
        CREATE FUNCTION zoo.like(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
        CREATE OPERATOR zoo.<=> (FUNCTION = zoo.like, LEFTARG = text, RIGHTARG = text);
        CREATE FUNCTION zoo.as_text(zoo.place) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).house';
        CREATE CAST (zoo.place AS text) WITH FUNCTION zoo.as_text(zoo.place);
        CREATE FUNCTION zoo.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER visited AFTER INSERT ON zoo.visits FOR EACH ROW EXECUTE FUNCTION zoo.touch();
        CREATE RULE no_delete AS ON DELETE TO zoo.keepers WHERE old.id = 1 DO INSTEAD NOTHING;

        CREATE MATERIALIZED VIEW zoo.counts AS SELECT kind, count(*) AS n FROM zoo.animals GROUP BY kind;
        CREATE UNIQUE INDEX counts_once ON zoo.counts (kind);

        ALTER TABLE zoo.animals ENABLE ROW LEVEL SECURITY;
        CREATE POLICY seen ON zoo.animals FOR SELECT TO zoo_visitor, "zoo keeper" USING (kind = 'bird');
        CREATE POLICY fed ON zoo.animals FOR UPDATE TO "zoo keeper" USING (true) WITH CHECK (keeper = 1);
        CREATE FUNCTION zoo.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
        CREATE FUNCTION zoo.watch_more() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
        CREATE EVENT TRIGGER zoo_watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION zoo.watch();
        CREATE PUBLICATION zoo_all FOR ALL TABLES;
        CREATE PUBLICATION zoo_none;
        ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT USAGE ON SEQUENCES TO zoo_visitor;
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        """#

    static let reader: CatalogReader = {
        var reader = CatalogReader(.schemas(["zoo"]))
        reader.readsDependencies = true
        return reader
    }()

    static func read(_ settings: ConnectionSettings) async throws -> SchemaCatalog {
        try await Connection.opened(settings) { try await $0.with { try reader.read(on: $0) } }
    }
}
