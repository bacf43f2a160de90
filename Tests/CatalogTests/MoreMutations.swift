extension Mutation {
    private static func replaced(_ rest: String) -> String {
        "CREATE OR REPLACE FUNCTION zoo.count_animals(kind text DEFAULT 'bird', OUT n bigint) RETURNS bigint \(rest)"
    }

    private static let body = "AS $$ SELECT count(*) FROM zoo.animals a WHERE a.kind = $1 $$"
    private static let settings = "SET search_path = zoo, pg_temp SET work_mem = '8MB'"
    private static let counting = "zoo.count_animals(text)"

    static let routines = [
        Mutation("function", "owner", counting, "ALTER FUNCTION \(counting) OWNER TO zoo_visitor"),
        Mutation("function", "comment", counting, "COMMENT ON FUNCTION \(counting) IS 'x'"),
        Mutation(
            "function", "arguments", counting,
            """
            DROP FUNCTION \(counting); CREATE FUNCTION zoo.count_animals(sort text, OUT n bigint) RETURNS bigint
                LANGUAGE sql STABLE PARALLEL SAFE \(settings) \(body)
            """, also: ["function \(counting): privileges of public"]),
        Mutation(
            "function", "returns", "zoo.many()",
            """
            DROP FUNCTION zoo.many();
            CREATE FUNCTION zoo.many() RETURNS SETOF bigint LANGUAGE sql ROWS 10 COST 20 AS 'SELECT 1'
            """, also: ["function zoo.many(): privileges of public"]),
        Mutation(
            "function", "language", "zoo.watch()",
            "UPDATE pg_proc SET prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql') WHERE proname = 'watch'"),
        Mutation(
            "function", "body", counting,
            replaced("LANGUAGE sql STABLE PARALLEL SAFE \(settings) AS 'SELECT 1::bigint'")),
        Mutation(
            "function", "body", "zoo.doubled(integer)",
            """
            CREATE OR REPLACE FUNCTION zoo.doubled(a integer) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC
                SELECT a + a;
            END
            """),
        Mutation(
            "function", "body kind", "zoo.doubled(integer)",
            """
            CREATE OR REPLACE FUNCTION zoo.doubled(a integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$BEGIN ATOMIC
             SELECT (a * 2);
            END$$
            """),
        Mutation("function", "volatility", counting, "ALTER FUNCTION \(counting) VOLATILE"),
        Mutation("function", "strict", counting, "ALTER FUNCTION \(counting) STRICT"),
        Mutation("function", "security", counting, "ALTER FUNCTION \(counting) SECURITY DEFINER"),
        Mutation("function", "leakproof", counting, "ALTER FUNCTION \(counting) LEAKPROOF"),
        Mutation("function", "parallel", counting, "ALTER FUNCTION \(counting) PARALLEL RESTRICTED"),
        Mutation("function", "cost", "zoo.many()", "ALTER FUNCTION zoo.many() COST 30"),
        Mutation("function", "rows", "zoo.many()", "ALTER FUNCTION zoo.many() ROWS 30"),
        Mutation("function", "settings", counting, "ALTER FUNCTION \(counting) SET search_path = public, pg_temp"),
        Mutation("function", "settings", counting, "ALTER FUNCTION \(counting) RESET work_mem"),
        Mutation(
            "function", "support", "zoo.many()",
            "ALTER FUNCTION zoo.many() SUPPORT pg_catalog.generate_series_int4_support"),
        Mutation("function", "window", "zoo.many()", "UPDATE pg_proc SET prokind = 'w' WHERE proname = 'many'"),
        Mutation(
            "function", "library", "zoo.many()",
            "UPDATE pg_proc SET probin = 'x' WHERE oid = 'zoo.many()'::regprocedure"),
        Mutation(
            "function", "transforms", "zoo.many()",
            "UPDATE pg_proc SET protrftypes = '{25}' WHERE oid = 'zoo.many()'::regprocedure"),
        Mutation(
            "function", "privileges of zoo_visitor", counting, "GRANT EXECUTE ON FUNCTION \(counting) TO zoo_visitor"),
        Mutation(
            "function", "privileges of public", counting, "REVOKE EXECUTE ON FUNCTION \(counting) FROM PUBLIC"),
        Mutation(
            "procedure", "body", "zoo.feed(integer)",
            """
            CREATE OR REPLACE PROCEDURE zoo.feed(INOUT food integer) LANGUAGE plpgsql AS $$ BEGIN food := 0; END $$
            """),
        Mutation(
            "procedure", "arguments", "zoo.feed(integer)",
            """
            DROP PROCEDURE zoo.feed; CREATE PROCEDURE zoo.feed(INOUT fodder integer) LANGUAGE plpgsql
                AS $$ BEGIN food := food - 1; END $$
            """, also: ["procedure zoo.feed(integer): privileges of public"]),
        Mutation(
            "aggregate", "definition", "zoo.total(integer)",
            "CREATE OR REPLACE AGGREGATE zoo.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '1')"),
        Mutation(
            "aggregate", "arguments", "zoo.total(integer)",
            """
            DROP AGGREGATE zoo.total(integer);
            CREATE AGGREGATE zoo.total(a integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0')
            """, also: ["aggregate zoo.total(integer): privileges of public"]),
        Mutation("aggregate", "owner", "zoo.total(integer)", "ALTER AGGREGATE zoo.total(integer) OWNER TO zoo_visitor"),
        Mutation("aggregate", "comment", "zoo.total(integer)", "COMMENT ON AGGREGATE zoo.total(integer) IS 'x'"),
        Mutation(
            "aggregate", "privileges of zoo_visitor", "zoo.total(integer)",
            "GRANT EXECUTE ON FUNCTION zoo.total(integer) TO zoo_visitor"),
        Mutation(
            "operator", "function", plus,
            """
            DROP OPERATOR zoo.<+> (text, text);
            CREATE OPERATOR zoo.<+> (FUNCTION = pg_catalog.textcat, LEFTARG = text, RIGHTARG = text)
            """),
        Mutation("operator", "commutator", plus, operation("COMMUTATOR = OPERATOR(zoo.<+>)")),
        Mutation(
            "operator", "negator", #"zoo."<=>"(text, text)"#,
            "UPDATE pg_operator SET oprnegate = 'pg_catalog.=(text,text)'::regoperator WHERE oprname = '<=>' "
                + "AND oprnamespace = 'zoo'::regnamespace"),
        Mutation(
            "operator", "restrict", #"zoo."<=>"(text, text)"#,
            "ALTER OPERATOR zoo.<=> (text, text) SET (RESTRICT = eqsel)"),
        Mutation(
            "operator", "join", #"zoo."<=>"(text, text)"#, "ALTER OPERATOR zoo.<=> (text, text) SET (JOIN = eqjoinsel)"),
        Mutation(
            "operator", "hashes", #"zoo."<=>"(text, text)"#,
            "UPDATE pg_operator SET oprcanhash = true WHERE oprname = '<=>' AND oprnamespace = 'zoo'::regnamespace"),
        Mutation(
            "operator", "merges", #"zoo."<=>"(text, text)"#,
            "UPDATE pg_operator SET oprcanmerge = true WHERE oprname = '<=>' AND oprnamespace = 'zoo'::regnamespace"),
        Mutation("operator", "owner", plus, "ALTER OPERATOR zoo.<+> (text, text) OWNER TO zoo_visitor"),
        Mutation("operator", "comment", plus, "COMMENT ON OPERATOR zoo.<+> (text, text) IS 'x'"),
    ]

    private static let plus = #"zoo."<+>"(text, text)"#

    private static func operation(_ more: String) -> String {
        """
        DROP OPERATOR zoo.<+> (text, text);
        CREATE OPERATOR zoo.<+> (FUNCTION = zoo.joined, LEFTARG = text, RIGHTARG = text, \(more))
        """
    }

    static let types = [
        Mutation("enum", "labels", "zoo.size", "ALTER TYPE zoo.size ADD VALUE 'gigantic' BEFORE 'huge'"),
        Mutation("enum", "labels", "zoo.size", "ALTER TYPE zoo.size RENAME VALUE 'huge' TO 'enormous'"),
        Mutation("enum", "labels", "zoo.spare", "DROP TYPE zoo.spare; CREATE TYPE zoo.spare AS ENUM ('b')"),
        Mutation("enum", "owner", "zoo.size", "ALTER TYPE zoo.size OWNER TO zoo_visitor"),
        Mutation("enum", "comment", "zoo.size", "COMMENT ON TYPE zoo.size IS 'x'"),
        Mutation("enum", "privileges of public", "zoo.size", "REVOKE USAGE ON TYPE zoo.size FROM PUBLIC"),
        Mutation(
            "domain", "base type", "zoo.code",
            "DROP DOMAIN zoo.code; CREATE DOMAIN zoo.code AS varchar(6) COLLATE \"C\""),
        Mutation(
            "domain", "collation", "zoo.code", "DROP DOMAIN zoo.code; CREATE DOMAIN zoo.code AS varchar(5)"),
        Mutation("domain", "default", "zoo.weight", "ALTER DOMAIN zoo.weight SET DEFAULT 2.0"),
        Mutation("domain", "not null", "zoo.weight", "ALTER DOMAIN zoo.weight SET NOT NULL"),
        Mutation("domain", "owner", "zoo.weight", "ALTER DOMAIN zoo.weight OWNER TO zoo_visitor"),
        Mutation("domain", "comment", "zoo.weight", "COMMENT ON DOMAIN zoo.weight IS 'x'"),
        Mutation("domain", "privileges of zoo_visitor", "zoo.weight", "GRANT USAGE ON TYPE zoo.weight TO zoo_visitor"),
        Mutation(
            "domain constraint", "expression", "zoo.weight.positive",
            """
            ALTER DOMAIN zoo.weight DROP CONSTRAINT positive;
            ALTER DOMAIN zoo.weight ADD CONSTRAINT positive CHECK (VALUE > 1)
            """),
        Mutation(
            "domain constraint", "not valid", "zoo.weight.positive",
            """
            ALTER DOMAIN zoo.weight DROP CONSTRAINT positive;
            ALTER DOMAIN zoo.weight ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID
            """),
        Mutation(
            "domain constraint", "comment", "zoo.weight.positive",
            "COMMENT ON CONSTRAINT positive ON DOMAIN zoo.weight IS 'x'"),
        Mutation(
            "composite type", "attributes", "zoo.alone", "ALTER TYPE zoo.alone ADD ATTRIBUTE c integer"),
        Mutation(
            "composite type", "attributes", "zoo.alone",
            "ALTER TYPE zoo.alone DROP ATTRIBUTE a, ADD ATTRIBUTE a integer"),
        Mutation(
            "composite type", "attributes", "zoo.place",
            "UPDATE pg_attribute SET attname = 'room' WHERE attrelid = 'zoo.place'::regclass AND attname = 'house'"),
        Mutation("composite type", "owner", "zoo.place", "ALTER TYPE zoo.place OWNER TO zoo_visitor"),
        Mutation("composite type", "comment", "zoo.place", "COMMENT ON TYPE zoo.place IS 'x'"),
        Mutation(
            "composite type", "privileges of public", "zoo.place", "REVOKE USAGE ON TYPE zoo.place FROM PUBLIC"),
        Mutation(
            "range type", "subtype", "zoo.spans",
            """
            DROP TYPE zoo.spans; CREATE TYPE zoo.spans AS RANGE (SUBTYPE = bigint)
            """),
        Mutation(
            "range type", "subtype difference", "zoo.heights",
            "UPDATE pg_range SET rngsubdiff = 0 WHERE rngtypid = 'zoo.heights'::regtype"),
        Mutation(
            "range type", "canonical", "zoo.spans",
            "UPDATE pg_range SET rngcanonical = 'int4range_canonical'::regproc WHERE rngtypid = 'zoo.spans'::regtype"),
        Mutation(
            "range type", "subtype operator class", "zoo.texts",
            """
            DROP TYPE zoo.texts; CREATE TYPE zoo.texts AS RANGE (SUBTYPE = text, COLLATION = "C",
                SUBTYPE_OPCLASS = text_pattern_ops)
            """),
        Mutation(
            "range type", "subtype collation", "zoo.texts",
            "DROP TYPE zoo.texts; CREATE TYPE zoo.texts AS RANGE (SUBTYPE = text)"),
        Mutation(
            "range type", "multirange type", "zoo.spans",
            "ALTER TYPE zoo.spans_multirange RENAME TO spans_many"),
        Mutation("range type", "owner", "zoo.heights", "ALTER TYPE zoo.heights OWNER TO zoo_visitor"),
        Mutation("range type", "comment", "zoo.heights", "COMMENT ON TYPE zoo.heights IS 'x'"),
        Mutation("range type", "privileges of public", "zoo.heights", "REVOKE USAGE ON TYPE zoo.heights FROM PUBLIC"),
        Mutation(
            "collation", "provider", "zoo.posix",
            "DROP COLLATION zoo.posix; CREATE COLLATION zoo.posix (provider = icu, locale = 'C')"),
        Mutation(
            "collation", "locale", "zoo.german",
            "DROP COLLATION zoo.german; CREATE COLLATION zoo.german (provider = icu, locale = 'de-AT')"),
        Mutation(
            "collation", "character type", "zoo.plain",
            "DROP COLLATION zoo.plain; CREATE COLLATION zoo.plain (lc_collate = 'C', lc_ctype = 'C.UTF-8')"),
        Mutation(
            "collation", "deterministic", "zoo.german",
            """
            DROP COLLATION zoo.german;
            CREATE COLLATION zoo.german (provider = icu, locale = 'de-DE', deterministic = false)
            """),
        Mutation("collation", "owner", "zoo.german", "ALTER COLLATION zoo.german OWNER TO zoo_visitor"),
        Mutation("collation", "comment", "zoo.german", "COMMENT ON COLLATION zoo.german IS 'x'"),
        Mutation(
            "text search dictionary", "options", "zoo.plain",
            "ALTER TEXT SEARCH DICTIONARY zoo.plain (STOPWORDS)"),
        Mutation(
            "text search dictionary", "template", "zoo.idle",
            """
            DROP TEXT SEARCH DICTIONARY zoo.idle;
            CREATE TEXT SEARCH DICTIONARY zoo.idle (TEMPLATE = zoo.other_simple)
            """),
        Mutation(
            "text search dictionary", "owner", "zoo.plain",
            "ALTER TEXT SEARCH DICTIONARY zoo.plain OWNER TO zoo_visitor"),
        Mutation(
            "text search dictionary", "comment", "zoo.plain", "COMMENT ON TEXT SEARCH DICTIONARY zoo.plain IS 'x'"),
        Mutation(
            "text search configuration", "mappings", "zoo.words",
            "ALTER TEXT SEARCH CONFIGURATION zoo.words ADD MAPPING FOR email WITH pg_catalog.simple"),
        Mutation(
            "text search configuration", "mappings", "zoo.words",
            "ALTER TEXT SEARCH CONFIGURATION zoo.words ALTER MAPPING FOR word WITH zoo.plain, pg_catalog.simple"),
        Mutation(
            "text search configuration", "parser", "zoo.words",
            """
            DROP TEXT SEARCH CONFIGURATION zoo.words;
            CREATE TEXT SEARCH CONFIGURATION zoo.words (PARSER = zoo.other_parser);
            ALTER TEXT SEARCH CONFIGURATION zoo.words ADD MAPPING FOR word, asciiword WITH zoo.plain
            """),
        Mutation(
            "text search configuration", "owner", "zoo.words",
            "ALTER TEXT SEARCH CONFIGURATION zoo.words OWNER TO zoo_visitor"),
        Mutation(
            "text search configuration", "comment", "zoo.words", "COMMENT ON TEXT SEARCH CONFIGURATION zoo.words IS 'x'"
        ),
    ]

    /// Kinds that are read along with others.
    static let kin = [
        Mutation("procedure", "owner", "zoo.feed(integer)", "ALTER PROCEDURE zoo.feed OWNER TO zoo_visitor"),
        Mutation("procedure", "comment", "zoo.feed(integer)", "COMMENT ON PROCEDURE zoo.feed IS 'x'"),
        Mutation("procedure", "security", "zoo.feed(integer)", "ALTER PROCEDURE zoo.feed SECURITY DEFINER"),
        Mutation("procedure", "settings", "zoo.feed(integer)", "ALTER PROCEDURE zoo.feed SET search_path = ''"),
        Mutation(
            "procedure", "privileges of public", "zoo.feed(integer)", "REVOKE EXECUTE ON PROCEDURE zoo.feed FROM PUBLIC"
        ),
        Mutation(
            "materialized view", "owner", "zoo.counts", "ALTER MATERIALIZED VIEW zoo.counts OWNER TO zoo_director"),
        Mutation("materialized view", "privileges of public", "zoo.counts", "GRANT SELECT ON zoo.counts TO PUBLIC"),
        Mutation("foreign table", "owner", "zoo.passwords", "ALTER FOREIGN TABLE zoo.passwords OWNER TO zoo_director"),
        Mutation("foreign table", "comment", "zoo.passwords", "COMMENT ON FOREIGN TABLE zoo.passwords IS 'x'"),
        Mutation("foreign table", "privileges of public", "zoo.passwords", "GRANT SELECT ON zoo.passwords TO PUBLIC"),
        Mutation("column", "present", "zoo.passwords.more", "ALTER FOREIGN TABLE zoo.passwords ADD COLUMN more text"),
        Mutation("column", "not null", "zoo.passwords.line", "ALTER TABLE zoo.passwords ALTER line SET NOT NULL"),
        Mutation("view", "privileges of \"zoo keeper\"", "zoo.birds", "GRANT UPDATE ON zoo.birds TO \"zoo keeper\""),
        Mutation(
            "trigger", "present", "zoo.small_birds.more",
            "CREATE TRIGGER more INSTEAD OF INSERT ON zoo.small_birds FOR EACH ROW EXECUTE FUNCTION zoo.touch()"),
        Mutation("sequence", "comment", "zoo.animals_id_seq", "COMMENT ON SEQUENCE zoo.animals_id_seq IS 'x'"),
        Mutation("composite type", "comment", "zoo.lone", "COMMENT ON TYPE zoo.lone IS 'x'"),
        Mutation("column", "comment", "zoo.small_birds.id", "COMMENT ON COLUMN zoo.small_birds.id IS 'x'"),
        Mutation("column", "default", "zoo.small_birds.id", "ALTER VIEW zoo.small_birds ALTER COLUMN id SET DEFAULT 3"),
        Mutation(
            "column", "privileges of zoo_visitor", "zoo.counts.n", "GRANT SELECT (n) ON zoo.counts TO zoo_visitor"),
        Mutation("column", "comment", "zoo.lone.a", "COMMENT ON COLUMN zoo.lone.a IS 'x'"),
        Mutation(
            "constraint", "present", "zoo.visits_2024.more",
            "ALTER TABLE zoo.visits_2024 ADD CONSTRAINT more CHECK (n > 0)"),
        Mutation(
            "constraint", "present", "zoo.visits.more", "ALTER TABLE zoo.visits ADD CONSTRAINT more CHECK (n > 0)"),
        Mutation("index", "present", "zoo.visits_2024.more", "CREATE INDEX more ON zoo.visits_2024 (n)"),
        Mutation("index", "present", "zoo.visits.visits_more", "CREATE INDEX visits_more ON zoo.visits (n)"),
        Mutation("column", "default", "zoo.visits_2024.n", "ALTER TABLE zoo.visits_2024 ALTER COLUMN n SET DEFAULT 3"),
        Mutation("column", "not null", "zoo.visits.who", "ALTER TABLE zoo.visits ALTER COLUMN who SET NOT NULL"),
    ]

    static let database = [
        Mutation("schema", "owner", "zoo", "ALTER SCHEMA zoo OWNER TO zoo_director"),
        Mutation("schema", "comment", "zoo", "COMMENT ON SCHEMA zoo IS NULL"),
        Mutation("schema", "privileges of zoo_visitor", "zoo", "GRANT CREATE ON SCHEMA zoo TO zoo_visitor"),
        Mutation("schema", "privileges of (owner)", "zoo", "REVOKE CREATE ON SCHEMA zoo FROM CURRENT_USER"),
        Mutation(
            "extension member", "privileges of zoo_visitor", "pg_trgm(FUNCTION zoo.similarity(text,text))",
            "GRANT EXECUTE ON FUNCTION zoo.similarity(text, text) TO zoo_visitor"),
        Mutation(
            "extension member", "privileges of public", "pg_trgm(FUNCTION zoo.similarity(text,text))",
            "REVOKE EXECUTE ON FUNCTION zoo.similarity(text, text) FROM PUBLIC"),
        Mutation(
            "extension member", "privileges of zoo_visitor", "file_fdw(FOREIGN DATA WRAPPER file_fdw)",
            "GRANT USAGE ON FOREIGN DATA WRAPPER file_fdw TO zoo_visitor WITH GRANT OPTION"),
        Mutation("extension", "in schema", "pg_trgm", "ALTER EXTENSION pg_trgm SET SCHEMA public"),
        Mutation(
            "extension", "version", "pg_trgm",
            "DROP EXTENSION pg_trgm; CREATE EXTENSION pg_trgm SCHEMA zoo VERSION '1.5'"),
        Mutation(
            "event trigger", "event", "zoo_watch",
            """
            DROP EVENT TRIGGER zoo_watch; CREATE EVENT TRIGGER zoo_watch ON ddl_command_start
                WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION zoo.watch()
            """),
        Mutation(
            "event trigger", "tags", "zoo_watch",
            """
            DROP EVENT TRIGGER zoo_watch; CREATE EVENT TRIGGER zoo_watch ON ddl_command_end
                WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION zoo.watch()
            """),
        Mutation(
            "event trigger", "function", "zoo_watch",
            """
            DROP EVENT TRIGGER zoo_watch; CREATE EVENT TRIGGER zoo_watch ON ddl_command_end
                WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION zoo.watch_more()
            """),
        Mutation("event trigger", "enabled", "zoo_watch", "ALTER EVENT TRIGGER zoo_watch DISABLE"),
        Mutation("event trigger", "comment", "zoo_watch", "COMMENT ON EVENT TRIGGER zoo_watch IS 'x'"),
        Mutation(
            "event trigger", "owner", "zoo_watch", "ALTER EVENT TRIGGER zoo_watch OWNER TO zoo_director"),
        Mutation("publication", "owner", "zoo_news", "ALTER PUBLICATION zoo_news OWNER TO zoo_director"),
        Mutation("publication", "comment", "zoo_news", "COMMENT ON PUBLICATION zoo_news IS 'x'"),
        Mutation(
            "publication", "all tables", "zoo_all", "DROP PUBLICATION zoo_all; CREATE PUBLICATION zoo_all"),
        Mutation("publication", "publish", "zoo_news", "ALTER PUBLICATION zoo_news SET (publish = 'insert')"),
        Mutation("publication", "publish", "zoo_news", "ALTER PUBLICATION zoo_news SET (publish = '')"),
        Mutation(
            "publication", "publish via partition root", "zoo_news",
            "ALTER PUBLICATION zoo_news SET (publish_via_partition_root = true)"),
        Mutation(
            "publication", "tables", "zoo_news",
            "ALTER PUBLICATION zoo_news SET TABLE zoo.animals (id) WHERE (id > 3), ONLY zoo.parents"),
        Mutation(
            "publication", "tables", "zoo_news",
            "ALTER PUBLICATION zoo_news SET TABLE zoo.animals (id, name) WHERE (id > 4), ONLY zoo.parents"),
        Mutation("publication", "schemas", "zoo_none", "ALTER PUBLICATION zoo_none ADD TABLES IN SCHEMA zoo"),
        Mutation(
            "foreign-data wrapper", "owner", "zoo_wrapper",
            "ALTER FOREIGN DATA WRAPPER zoo_wrapper OWNER TO zoo_director"),
        Mutation(
            "foreign-data wrapper", "comment", "zoo_wrapper", "COMMENT ON FOREIGN DATA WRAPPER zoo_wrapper IS 'x'"),
        Mutation(
            "foreign-data wrapper", "handler", "zoo_wrapper",
            "ALTER FOREIGN DATA WRAPPER zoo_wrapper HANDLER file_fdw_handler"),
        Mutation(
            "foreign-data wrapper", "validator", "zoo_wrapper",
            "ALTER FOREIGN DATA WRAPPER zoo_wrapper VALIDATOR file_fdw_validator"),
        Mutation(
            "foreign-data wrapper", "options", "zoo_wrapper",
            "ALTER FOREIGN DATA WRAPPER zoo_wrapper OPTIONS (ADD debug 'on')"),
        Mutation(
            "foreign-data wrapper", "privileges of zoo_visitor", "zoo_wrapper",
            "GRANT USAGE ON FOREIGN DATA WRAPPER zoo_wrapper TO zoo_visitor WITH GRANT OPTION"),
        Mutation(
            "user mapping", "options", "zoo_wrapped(zoo_visitor)",
            "ALTER USER MAPPING FOR zoo_visitor SERVER zoo_wrapped OPTIONS (SET user 'b')"),
        Mutation("foreign server", "owner", "zoo_files", "ALTER SERVER zoo_files OWNER TO zoo_director"),
        Mutation("foreign server", "comment", "zoo_files", "COMMENT ON SERVER zoo_files IS 'x'"),
        Mutation("foreign server", "version", "zoo_files", "ALTER SERVER zoo_files VERSION '2'"),
        Mutation(
            "foreign server", "type", "zoo_other",
            "DROP SERVER zoo_other; CREATE SERVER zoo_other TYPE 'x' FOREIGN DATA WRAPPER file_fdw"),
        Mutation(
            "foreign server", "wrapper", "zoo_other",
            "DROP SERVER zoo_other; CREATE SERVER zoo_other FOREIGN DATA WRAPPER zoo_wrapper"),
        Mutation(
            "foreign server", "options", "zoo_wrapped", "ALTER SERVER zoo_wrapped OPTIONS (SET host 'b', ADD port '1')"),
        Mutation(
            "foreign server", "privileges of zoo_visitor", "zoo_files",
            "GRANT USAGE ON FOREIGN SERVER zoo_files TO zoo_visitor"),
        Mutation(
            "cast", "method", #""zoo.place AS text""#,
            "DROP CAST (zoo.place AS text); CREATE CAST (zoo.place AS text) WITH INOUT"),
        Mutation(
            "cast", "context", #""zoo.place AS text""#,
            """
            DROP CAST (zoo.place AS text);
            CREATE CAST (zoo.place AS text) WITH FUNCTION zoo.as_text(zoo.place) AS ASSIGNMENT
            """),
        Mutation("cast", "comment", #""zoo.place AS text""#, "COMMENT ON CAST (zoo.place AS text) IS 'x'"),
        Mutation(
            "default privileges", "privileges of zoo_visitor", "zoo.sequences()",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT SELECT ON SEQUENCES TO zoo_visitor"),
        Mutation(
            "default privileges", "privileges of zoo_visitor", "functions()",
            "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO zoo_visitor"),
    ]
}
