/// One change of the zoo, and the one property in which it shows.
struct Mutation: Sendable, CustomStringConvertible {
    let kind: String
    /// `present` for an object that goes or comes.
    let property: String
    let object: String
    let sql: String
    /// What else PostgreSQL changes with it, as `kind object: property`.
    let also: [String]

    init(_ kind: String, _ property: String, _ object: String, _ sql: String, also: [String] = []) {
        self.kind = kind
        self.property = property
        self.object = object
        self.sql = sql
        self.also = also
    }

    var description: String { "\(kind) \(object): \(property)" }

    static let all =
        presence + tables + columns + constraints + indexes + relations + routines + types + database + kin
        + NewerZoo.mutations

    static let presence = [
        Mutation(
            "table", "present", "zoo.animals", "DROP TABLE zoo.animals CASCADE",
            also: [
                "view zoo.birds: present", "view zoo.small_birds: present", "materialized view zoo.counts: present",
                "publication zoo_news: tables",
            ]),
        Mutation("table", "present", #"zoo."Odd ""Name""""#, #"DROP TABLE zoo."Odd ""Name""""#),
        Mutation("table", "present", "zoo.extra", "CREATE TABLE zoo.extra (id serial PRIMARY KEY, x zoo.size)"),
        Mutation("table", "present", "zoo.visits_2024", "DROP TABLE zoo.visits_2024"),
        Mutation(
            "table", "present", "zoo.visits_2026",
            "CREATE TABLE zoo.visits_2026 PARTITION OF zoo.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"),
        Mutation("table", "present", "zoo.children", "DROP TABLE zoo.children"),
        Mutation("table", "present", "zoo.typed", "DROP TABLE zoo.typed"),
        Mutation("foreign table", "present", "zoo.passwords", "DROP FOREIGN TABLE zoo.passwords"),
        Mutation("column", "present", "zoo.animals.tags", "ALTER TABLE zoo.animals DROP COLUMN tags"),
        Mutation("column", "present", "zoo.animals.notes", "ALTER TABLE zoo.animals DROP COLUMN notes"),
        Mutation(
            "column", "present", "zoo.animals.extra", "ALTER TABLE zoo.animals ADD COLUMN extra integer DEFAULT 3"),
        Mutation("column", "present", "zoo.visits.extra", "ALTER TABLE zoo.visits ADD COLUMN extra integer"),
        Mutation("column", "present", "zoo.parents.note", "ALTER TABLE zoo.parents DROP COLUMN note"),
        Mutation("constraint", "present", "zoo.animals.named", "ALTER TABLE zoo.animals DROP CONSTRAINT named"),
        Mutation("constraint", "present", "zoo.animals.apart", "ALTER TABLE zoo.animals DROP CONSTRAINT apart"),
        Mutation(
            "constraint", "present", "zoo.animals.more",
            "ALTER TABLE zoo.animals ADD CONSTRAINT more CHECK (born > '1900-01-01')"),
        Mutation("index", "present", "zoo.animals.animals_once", "DROP INDEX zoo.animals_once"),
        Mutation("index", "present", "zoo.visits.visits_by_who", "DROP INDEX zoo.visits_by_who"),
        Mutation("index", "present", "zoo.animals.more", "CREATE INDEX more ON zoo.animals (born)"),
        Mutation("sequence", "present", "zoo.tickets", "DROP SEQUENCE zoo.tickets"),
        Mutation("sequence", "present", "zoo.more", "CREATE SEQUENCE zoo.more"),
        Mutation("view", "present", "zoo.small_birds", "DROP VIEW zoo.small_birds"),
        Mutation("view", "present", "zoo.more", "CREATE VIEW zoo.more AS SELECT * FROM zoo.birds"),
        Mutation("materialized view", "present", "zoo.counts", "DROP MATERIALIZED VIEW zoo.counts"),
        Mutation("function", "present", "zoo.many()", "DROP FUNCTION zoo.many()"),
        Mutation(
            "function", "present", "zoo.many(integer)",
            "CREATE FUNCTION zoo.many(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'"),
        Mutation("procedure", "present", "zoo.feed(integer)", "DROP PROCEDURE zoo.feed(integer)"),
        Mutation("aggregate", "present", "zoo.total(integer)", "DROP AGGREGATE zoo.total(integer)"),
        Mutation("operator", "present", "zoo.\"<+>\"(text, text)", "DROP OPERATOR zoo.<+> (text, text)"),
        Mutation("cast", "present", #""zoo.place AS text""#, "DROP CAST (zoo.place AS text)"),
        Mutation("trigger", "present", "zoo.animals.touched", "DROP TRIGGER touched ON zoo.animals"),
        Mutation(
            "trigger", "present", "zoo.keepers.more",
            "CREATE TRIGGER more BEFORE INSERT ON zoo.keepers EXECUTE FUNCTION zoo.touch()"),
        Mutation("rule", "present", "zoo.keepers.no_delete", "DROP RULE no_delete ON zoo.keepers"),
        Mutation("policy", "present", "zoo.animals.seen", "DROP POLICY seen ON zoo.animals"),
        Mutation("policy", "present", "zoo.animals.more", "CREATE POLICY more ON zoo.animals"),
        Mutation("statistics", "present", "zoo.together", "DROP STATISTICS zoo.together"),
        Mutation("enum", "present", "zoo.mood", "CREATE TYPE zoo.mood AS ENUM ('a')"),
        Mutation("domain", "present", "zoo.more", "CREATE DOMAIN zoo.more AS text CHECK (VALUE <> '')"),
        Mutation(
            "domain constraint", "present", "zoo.weight.positive", "ALTER DOMAIN zoo.weight DROP CONSTRAINT positive"),
        Mutation("composite type", "present", "zoo.more", "CREATE TYPE zoo.more AS (a integer)"),
        Mutation("range type", "present", "zoo.more", "CREATE TYPE zoo.more AS RANGE (SUBTYPE = integer)"),
        Mutation("collation", "present", "zoo.german", "DROP COLLATION zoo.german"),
        Mutation("text search configuration", "present", "zoo.words", "DROP TEXT SEARCH CONFIGURATION zoo.words"),
        Mutation(
            "text search dictionary", "present", "zoo.more",
            "CREATE TEXT SEARCH DICTIONARY zoo.more (TEMPLATE = pg_catalog.simple)"),
        Mutation(
            "foreign-data wrapper", "present", "more",
            "CREATE FOREIGN DATA WRAPPER more; CREATE SERVER of_more FOREIGN DATA WRAPPER more",
            also: ["foreign server of_more: present"]),
        Mutation(
            "foreign server", "present", "zoo_wrapped", "DROP SERVER zoo_wrapped CASCADE"),
        Mutation(
            "user mapping", "present", "zoo_wrapped(zoo_visitor)",
            "DROP USER MAPPING FOR zoo_visitor SERVER zoo_wrapped"),
        Mutation(
            "user mapping", "present", "zoo_other((migrator))",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER zoo_other"),
        Mutation("user mapping", "present", "zoo_other(public)", "CREATE USER MAPPING FOR PUBLIC SERVER zoo_other"),
        Mutation(
            "subscription", "present", "zoo_feed",
            "CREATE SUBSCRIPTION zoo_feed CONNECTION 'host=h' PUBLICATION p WITH (connect = false, slot_name = NONE)"),
        Mutation("foreign server", "present", "more", "CREATE SERVER more FOREIGN DATA WRAPPER file_fdw"),
        Mutation("extension", "present", "pg_trgm", "DROP EXTENSION pg_trgm"),
        Mutation("extension", "present", "citext", "CREATE EXTENSION citext"),
        Mutation("event trigger", "present", "zoo_watch", "DROP EVENT TRIGGER zoo_watch"),
        Mutation("publication", "present", "zoo_news", "DROP PUBLICATION zoo_news"),
        Mutation("publication", "present", "zoo_more", "CREATE PUBLICATION zoo_more FOR ALL TABLES"),
        Mutation(
            "default privileges", "present", "zoo.sequences()",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA zoo REVOKE USAGE ON SEQUENCES FROM zoo_visitor"),
        Mutation(
            "default privileges", "present", "zoo.functions()",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA zoo GRANT EXECUTE ON FUNCTIONS TO zoo_visitor"),
        Mutation(
            "schema", "present", "zoo", "DROP SCHEMA zoo CASCADE",
            also: [
                "extension pg_trgm: present", #"cast "zoo.place AS text": present"#, "event trigger zoo_watch: present",
                "publication zoo_news: tables",
            ]),
    ]

    static let tables = [
        Mutation("table", "owner", "zoo.animals", "ALTER TABLE zoo.animals OWNER TO zoo_director"),
        Mutation("table", "comment", "zoo.animals", "COMMENT ON TABLE zoo.animals IS 'other'"),
        Mutation("table", "comment", "zoo.parents", "COMMENT ON TABLE zoo.parents IS 'new'"),
        Mutation("table", "persistence", "zoo.other_parents", "ALTER TABLE zoo.other_parents SET UNLOGGED"),
        Mutation("table", "access method", "zoo.parents", "ALTER TABLE zoo.parents SET ACCESS METHOD zoo_heap"),
        Mutation("table", "tablespace", "zoo.parents", "ALTER TABLE zoo.parents SET TABLESPACE zoo_space"),
        Mutation("table", "options", "zoo.parents", "ALTER TABLE zoo.parents SET (fillfactor = 70)"),
        Mutation("table", "options", "zoo.parents", "ALTER TABLE zoo.parents RESET (autovacuum_enabled)"),
        Mutation(
            "table", "toast options", "zoo.parents", "ALTER TABLE zoo.parents SET (toast.autovacuum_enabled = false)"),
        Mutation("table", "replica identity", "zoo.parents", "ALTER TABLE zoo.parents REPLICA IDENTITY FULL"),
        Mutation(
            "table", "replica identity", "zoo.keepers",
            "ALTER TABLE zoo.keepers REPLICA IDENTITY USING INDEX keepers_pkey"),
        Mutation("table", "row level security", "zoo.animals", "ALTER TABLE zoo.animals DISABLE ROW LEVEL SECURITY"),
        Mutation(
            "table", "forced row level security", "zoo.animals", "ALTER TABLE zoo.animals FORCE ROW LEVEL SECURITY"),
        Mutation(
            "table", "partition key", "zoo.visits",
            """
            DROP TABLE zoo.visits_2024; DROP TABLE zoo.visits_2025; DROP TABLE zoo.visits;
            CREATE TABLE zoo.visits (at date NOT NULL, who text, n integer) PARTITION BY RANGE (at, n);
            CREATE TABLE zoo.visits_2024 PARTITION OF zoo.visits
                FOR VALUES FROM ('2024-01-01', MINVALUE) TO ('2025-01-01', MINVALUE);
            CREATE TABLE zoo.visits_2025 PARTITION OF zoo.visits
                FOR VALUES FROM ('2025-01-01', MINVALUE) TO ('2026-01-01', MINVALUE);
            CREATE INDEX visits_by_who ON zoo.visits (who);
            CREATE TRIGGER visited AFTER INSERT ON zoo.visits FOR EACH ROW EXECUTE FUNCTION zoo.touch();
            INSERT INTO zoo.visits VALUES ('2024-05-06', 'me', 1), ('2025-05-06', 'you', 2);
            """, also: ["table zoo.visits_2024: partition bound", "table zoo.visits_2025: partition bound"]),
        Mutation(
            "table", "partition of", "zoo.visits_2024", "ALTER TABLE zoo.visits DETACH PARTITION zoo.visits_2024",
            also: ["index zoo.visits_2024.visits_2024_who_idx: present"]),
        Mutation(
            "table", "partition bound", "zoo.visits_2024",
            """
            ALTER TABLE zoo.visits DETACH PARTITION zoo.visits_2024;
            ALTER TABLE zoo.visits ATTACH PARTITION zoo.visits_2024 FOR VALUES FROM ('2023-01-01') TO ('2025-01-01')
            """),
        Mutation("table", "inherits", "zoo.children", "ALTER TABLE zoo.children NO INHERIT zoo.parents"),
        Mutation("table", "of type", "zoo.typed", "ALTER TABLE zoo.typed NOT OF"),
        Mutation(
            "table", "disabled inherited triggers", "zoo.visits_2024",
            "ALTER TABLE zoo.visits_2024 DISABLE TRIGGER visited"),
        Mutation(
            "table", "column order", "zoo.keepers",
            """
            ALTER TABLE zoo.keepers DROP COLUMN name;
            ALTER TABLE zoo.keepers ADD COLUMN name text NOT NULL DEFAULT 'x';
            ALTER TABLE zoo.keepers ALTER COLUMN name DROP DEFAULT
            """),
        Mutation("table", "privileges of zoo_visitor", "zoo.animals", "REVOKE INSERT ON zoo.animals FROM zoo_visitor"),
        Mutation(
            "table", #"privileges of "zoo keeper""#, "zoo.animals",
            #"REVOKE GRANT OPTION FOR SELECT ON zoo.animals FROM "zoo keeper""#),
        Mutation("table", "privileges of public", "zoo.parents", "GRANT ALL ON zoo.parents TO PUBLIC"),
        Mutation("table", "privileges of (owner)", "zoo.parents", "REVOKE DELETE ON zoo.parents FROM CURRENT_USER"),
        Mutation(
            "foreign table", "foreign options", "zoo.passwords",
            "ALTER FOREIGN TABLE zoo.passwords OPTIONS (SET filename '/etc/other', ADD format 'csv')"),
        Mutation(
            "foreign table", "server", "zoo.passwords",
            """
            DROP FOREIGN TABLE zoo.passwords;
            CREATE FOREIGN TABLE zoo.passwords (line text) SERVER zoo_other OPTIONS (filename '/etc/hostname')
            """),
    ]

    /// Takes away what hinders a change of `animals.name`, and makes it again as it was.
    private static func aroundViews(_ sql: String) -> String {
        """
        DROP VIEW zoo.birds CASCADE; DROP TRIGGER touched ON zoo.animals; DROP PUBLICATION zoo_news; \(sql);
        \(Zoo.views); \(Zoo.trigger); \(Zoo.publication)
        """
    }

    static let columns = [
        Mutation(
            "column", "type", "zoo.animals.name",
            aroundViews("ALTER TABLE zoo.animals ALTER COLUMN name TYPE varchar(50)"),
            also: ["index zoo.animals.animals_once: statistics targets"]),
        Mutation(
            "column", "type", "zoo.keepers.boss",
            """
            ALTER TABLE zoo.keepers DROP CONSTRAINT keepers_boss_fkey, ALTER COLUMN boss TYPE bigint,
                ADD CONSTRAINT keepers_boss_fkey FOREIGN KEY (boss) REFERENCES zoo.keepers (id)
            """),
        Mutation("column", "type", "zoo.parents.id", "ALTER TABLE zoo.parents ALTER COLUMN id TYPE text"),
        Mutation("column", "type", "zoo.visits.who", "ALTER TABLE zoo.visits ALTER COLUMN who TYPE varchar(9)"),
        Mutation(
            "column", "collation", "zoo.keepers.name",
            #"ALTER TABLE zoo.keepers ALTER COLUMN name TYPE text COLLATE "POSIX""#),
        Mutation("column", "default", "zoo.animals.name", "ALTER TABLE zoo.animals ALTER COLUMN name SET DEFAULT 'x'"),
        Mutation(
            "column", "type", "zoo.other_keepers.remark",
            """
            ALTER TABLE zoo.other_keepers ALTER remark DROP DEFAULT, ALTER remark TYPE integer USING 0,
                ALTER remark SET DEFAULT 1
            """, also: ["column zoo.other_keepers.remark: default"]),
        Mutation("column", "default", "zoo.animals.size", "ALTER TABLE zoo.animals ALTER COLUMN size DROP DEFAULT"),
        Mutation("column", "default", "zoo.keepers.boss", "ALTER TABLE zoo.keepers ALTER COLUMN boss SET DEFAULT 1"),
        Mutation(
            "column", "generated", "zoo.animals.born_year",
            "ALTER TABLE zoo.animals ALTER COLUMN born_year DROP EXPRESSION"),
        Mutation("column", "not null", "zoo.animals.name", "ALTER TABLE zoo.animals ALTER COLUMN name DROP NOT NULL"),
        Mutation(
            "column", "not null", "zoo.animals.notes",
            "UPDATE zoo.animals SET notes = ''; ALTER TABLE zoo.animals ALTER COLUMN notes SET NOT NULL"),
        Mutation("column", "identity", "zoo.animals.id", "ALTER TABLE zoo.animals ALTER COLUMN id DROP IDENTITY"),
        Mutation(
            "column", "identity", "zoo.animals.id", "ALTER TABLE zoo.animals ALTER COLUMN id SET GENERATED BY DEFAULT"),
        Mutation(
            "column", "storage", "zoo.animals.notes", "ALTER TABLE zoo.animals ALTER COLUMN notes SET STORAGE plain"),
        Mutation("column", "storage", "zoo.animals.kind", "ALTER TABLE zoo.animals ALTER COLUMN kind SET STORAGE main"),
        Mutation(
            "column", "compression", "zoo.animals.notes",
            "ALTER TABLE zoo.animals ALTER COLUMN notes SET COMPRESSION default"),
        Mutation(
            "column", "statistics target", "zoo.animals.notes",
            "ALTER TABLE zoo.animals ALTER COLUMN notes SET STATISTICS -1"),
        Mutation(
            "column", "options", "zoo.animals.kind", "ALTER TABLE zoo.animals ALTER COLUMN kind RESET (n_distinct)"),
        Mutation("column", "comment", "zoo.animals.name", "COMMENT ON COLUMN zoo.animals.name IS NULL"),
        Mutation("column", "comment", "zoo.birds.title", "COMMENT ON COLUMN zoo.birds.title IS 'other'"),
        Mutation(
            "column", "privileges of zoo_visitor", "zoo.animals.name",
            "REVOKE UPDATE (name) ON zoo.animals FROM zoo_visitor"),
        Mutation(
            "column", "foreign options", "zoo.passwords.line",
            "ALTER FOREIGN TABLE zoo.passwords ALTER COLUMN line OPTIONS (ADD force_not_null 'true')"),
        Mutation("column", "default", "zoo.birds.title", "ALTER VIEW zoo.birds ALTER COLUMN title SET DEFAULT 'x'"),
    ]

    private static func keys(_ constraint: String) -> String {
        "ALTER TABLE zoo.animals DROP CONSTRAINT kept, ADD CONSTRAINT kept FOREIGN KEY \(constraint)"
    }

    private static func named(_ constraint: String) -> String {
        "ALTER TABLE zoo.animals DROP CONSTRAINT named, ADD CONSTRAINT named UNIQUE \(constraint)"
    }

    private static func known(_ constraint: String) -> String {
        "ALTER TABLE zoo.animals DROP CONSTRAINT known_kind, ADD CONSTRAINT known_kind \(constraint);"
            + "COMMENT ON CONSTRAINT known_kind ON zoo.animals IS 'no others'"
    }

    static let constraints = [
        Mutation(
            "constraint", "type", "zoo.keepers.keepers_pkey",
            """
            ALTER TABLE zoo.animals DROP CONSTRAINT kept; ALTER TABLE zoo.keepers DROP CONSTRAINT keepers_boss_fkey;
            ALTER TABLE zoo.keepers DROP CONSTRAINT keepers_pkey, ADD CONSTRAINT keepers_pkey UNIQUE (id);
            ALTER TABLE zoo.animals ADD CONSTRAINT kept FOREIGN KEY (keeper) REFERENCES zoo.keepers (id)
                ON DELETE SET NULL;
            ALTER TABLE zoo.keepers ADD CONSTRAINT keepers_boss_fkey FOREIGN KEY (boss) REFERENCES zoo.keepers (id)
            """),
        Mutation("constraint", "columns", "zoo.animals.named", named("(born, name) INCLUDE (kind)")),
        Mutation("constraint", "include", "zoo.animals.named", named("(name, born)")),
        Mutation(
            "constraint", "nulls not distinct", "zoo.animals.named",
            named("NULLS NOT DISTINCT (name, born) INCLUDE (kind)")),
        Mutation("constraint", "options", "zoo.animals.named", "ALTER INDEX zoo.named SET (fillfactor = 60)"),
        Mutation("constraint", "tablespace", "zoo.animals.named", "ALTER INDEX zoo.named SET TABLESPACE zoo_space"),
        Mutation("constraint", "clustered", "zoo.animals.named", "ALTER TABLE zoo.animals CLUSTER ON named"),
        Mutation(
            "constraint", "valid", "zoo.animals.named",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'zoo.named'::regclass"),
        Mutation(
            "constraint", "deferrable", "zoo.animals.named",
            named("(name, born) INCLUDE (kind) DEFERRABLE INITIALLY DEFERRED")),
        Mutation(
            "constraint", "deferrable", "zoo.animals.kept", "ALTER TABLE zoo.animals ALTER CONSTRAINT kept DEFERRABLE"),
        Mutation(
            "constraint", "references", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.other_keepers (id) ON DELETE SET NULL")),
        Mutation(
            "constraint", "referenced columns", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.keepers (number) ON DELETE SET NULL")),
        Mutation(
            "constraint", "match", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.keepers MATCH FULL ON DELETE SET NULL")),
        Mutation(
            "constraint", "on delete", "zoo.animals.kept", keys("(keeper) REFERENCES zoo.keepers ON DELETE CASCADE")),
        Mutation(
            "constraint", "on delete", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.keepers ON DELETE SET NULL (keeper)")),
        Mutation(
            "constraint", "on update", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.keepers ON DELETE SET NULL ON UPDATE RESTRICT")),
        Mutation(
            "constraint", "not valid", "zoo.animals.kept",
            keys("(keeper) REFERENCES zoo.keepers ON DELETE SET NULL NOT VALID")),
        Mutation(
            "constraint", "enforcing triggers", "zoo.animals.kept",
            """
            DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgrelid::regclass AS r, tgname FROM pg_trigger
                WHERE tgconstraint = (SELECT oid FROM pg_constraint WHERE conname = 'kept')
            LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.r, t.tgname); END LOOP; END $$
            """),
        Mutation(
            "constraint", "expression", "zoo.animals.known_kind", known("CHECK (kind IN ('bird', 'fish', 'dog'))")),
        Mutation(
            "constraint", "no inherit", "zoo.animals.known_kind",
            known("CHECK (kind IN ('bird', 'fish')) NO INHERIT")),
        Mutation(
            "constraint", "not valid", "zoo.animals.known_kind", known("CHECK (kind IN ('bird', 'fish')) NOT VALID")),
        Mutation(
            "constraint", "comment", "zoo.animals.known_kind",
            "COMMENT ON CONSTRAINT known_kind ON zoo.animals IS 'other'"),
        Mutation(
            "constraint", "definition", "zoo.animals.apart",
            "ALTER TABLE zoo.animals DROP CONSTRAINT apart, ADD CONSTRAINT apart EXCLUDE USING gist (height WITH =)"),
    ]

    private static func index(
        _ keys: String = "(lower(kind) text_pattern_ops DESC NULLS LAST, born)", include: String = "INCLUDE (name)",
        options: String = "WITH (fillfactor = 80)", predicate: String = "WHERE kind IS NOT NULL"
    ) -> String {
        """
        DROP INDEX zoo.animals_by_kind;
        CREATE INDEX animals_by_kind ON zoo.animals \(keys) \(include) \(options) \(predicate);
        COMMENT ON INDEX zoo.animals_by_kind IS 'found fast'
        """
    }

    static let indexes = [
        Mutation("index", "keys", "zoo.animals.animals_by_kind", index("(lower(kind) DESC NULLS LAST, born)")),
        Mutation(
            "index", "keys", "zoo.animals.animals_by_kind", index("(lower(kind) text_pattern_ops DESC, born)")),
        Mutation(
            "index", "keys", "zoo.animals.animals_by_kind",
            index("(lower(kind) COLLATE \"POSIX\" text_pattern_ops DESC NULLS LAST, born)")),
        Mutation("index", "include", "zoo.animals.animals_by_kind", index(include: "")),
        Mutation("index", "predicate", "zoo.animals.animals_by_kind", index(predicate: "WHERE kind <> 'x'")),
        Mutation("index", "options", "zoo.animals.animals_by_kind", index(options: "WITH (fillfactor = 90)")),
        Mutation(
            "index", "method", "zoo.visits.visits_by_who",
            "DROP INDEX zoo.visits_by_who; CREATE INDEX visits_by_who ON zoo.visits USING hash (who)"),
        Mutation(
            "index", "unique", "zoo.counts.counts_once",
            "DROP INDEX zoo.counts_once; CREATE INDEX counts_once ON zoo.counts (kind)"),
        Mutation(
            "index", "nulls not distinct", "zoo.counts.counts_once",
            "DROP INDEX zoo.counts_once; CREATE UNIQUE INDEX counts_once ON zoo.counts (kind) NULLS NOT DISTINCT"),
        Mutation(
            "index", "tablespace", "zoo.animals.animals_by_kind",
            "ALTER INDEX zoo.animals_by_kind SET TABLESPACE zoo_space"),
        Mutation(
            "index", "valid", "zoo.animals.animals_by_kind",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'zoo.animals_by_kind'::regclass"),
        Mutation("index", "clustered", "zoo.animals.animals_once", "ALTER TABLE zoo.animals CLUSTER ON animals_once"),
        Mutation(
            "index", "statistics targets", "zoo.animals.animals_once",
            "ALTER INDEX zoo.animals_once ALTER COLUMN 3 SET STATISTICS 5"),
        Mutation("index", "comment", "zoo.animals.animals_by_kind", "COMMENT ON INDEX zoo.animals_by_kind IS NULL"),
    ]

    static let relations = [
        Mutation("sequence", "owner", "zoo.tickets", "ALTER SEQUENCE zoo.tickets OWNER TO zoo_visitor"),
        Mutation("sequence", "comment", "zoo.tickets", "COMMENT ON SEQUENCE zoo.tickets IS 'x'"),
        Mutation("sequence", "type", "zoo.tickets", "ALTER SEQUENCE zoo.tickets AS integer"),
        Mutation("sequence", "start", "zoo.tickets", "ALTER SEQUENCE zoo.tickets START 20"),
        Mutation("sequence", "start", "zoo.animals_id_seq", "ALTER SEQUENCE zoo.animals_id_seq START 20"),
        Mutation("sequence", "increment", "zoo.tickets", "ALTER SEQUENCE zoo.tickets INCREMENT 1"),
        Mutation("sequence", "minimum", "zoo.tickets", "ALTER SEQUENCE zoo.tickets MINVALUE 0"),
        Mutation("sequence", "maximum", "zoo.tickets", "ALTER SEQUENCE zoo.tickets MAXVALUE 1000"),
        Mutation("sequence", "cache", "zoo.tickets", "ALTER SEQUENCE zoo.tickets CACHE 1"),
        Mutation("sequence", "cycle", "zoo.tickets", "ALTER SEQUENCE zoo.tickets CYCLE"),
        Mutation("sequence", "persistence", "zoo.tickets", "ALTER SEQUENCE zoo.tickets SET UNLOGGED"),
        Mutation("sequence", "owned by", "zoo.keepers_id_seq", "ALTER SEQUENCE zoo.keepers_id_seq OWNED BY NONE"),
        Mutation("sequence", "owned by", "zoo.tickets", "ALTER SEQUENCE zoo.tickets OWNED BY zoo.parents.id"),
        Mutation("sequence", "privileges of zoo_visitor", "zoo.tickets", "GRANT USAGE ON zoo.tickets TO zoo_visitor"),
        Mutation("view", "owner", "zoo.birds", "ALTER VIEW zoo.birds OWNER TO \"zoo keeper\""),
        Mutation("view", "comment", "zoo.birds", "COMMENT ON VIEW zoo.birds IS 'x'"),
        Mutation(
            "view", "definition", "zoo.birds",
            """
            CREATE OR REPLACE VIEW zoo.birds WITH (security_barrier = true) AS
                SELECT id, name AS title, size, zoo.doubled(keeper) AS twice FROM zoo.animals
            """),
        Mutation("view", "options", "zoo.birds", "ALTER VIEW zoo.birds RESET (security_barrier)"),
        Mutation("view", "options", "zoo.birds", "ALTER VIEW zoo.birds SET (security_invoker = true)"),
        Mutation("view", "privileges of zoo_visitor", "zoo.birds", "REVOKE SELECT ON zoo.birds FROM zoo_visitor"),
        Mutation(
            "materialized view", "definition", "zoo.counts",
            """
            DROP MATERIALIZED VIEW zoo.counts;
            CREATE MATERIALIZED VIEW zoo.counts AS SELECT kind, sum(1) AS n FROM zoo.animals GROUP BY kind;
            CREATE UNIQUE INDEX counts_once ON zoo.counts (kind)
            """),
        Mutation(
            "materialized view", "options", "zoo.counts", "ALTER MATERIALIZED VIEW zoo.counts SET (fillfactor = 50)"),
        Mutation(
            "materialized view", "tablespace", "zoo.counts",
            "ALTER MATERIALIZED VIEW zoo.counts SET TABLESPACE zoo_space"),
        Mutation(
            "materialized view", "access method", "zoo.counts",
            "ALTER MATERIALIZED VIEW zoo.counts SET ACCESS METHOD zoo_heap"),
        Mutation("materialized view", "comment", "zoo.counts", "COMMENT ON MATERIALIZED VIEW zoo.counts IS 'x'"),
        Mutation(
            "statistics", "definition", "zoo.together",
            "DROP STATISTICS zoo.together; CREATE STATISTICS zoo.together (mcv) ON kind, born FROM zoo.animals"),
        Mutation("statistics", "target", "zoo.together", "ALTER STATISTICS zoo.together SET STATISTICS 9"),
        Mutation("statistics", "owner", "zoo.together", "ALTER STATISTICS zoo.together OWNER TO zoo_visitor"),
        Mutation("statistics", "comment", "zoo.together", "COMMENT ON STATISTICS zoo.together IS 'x'"),
        Mutation(
            "trigger", "definition", "zoo.animals.touched",
            """
            DROP TRIGGER touched ON zoo.animals; CREATE TRIGGER touched BEFORE UPDATE OF name ON zoo.animals
                FOR EACH ROW EXECUTE FUNCTION zoo.touch()
            """),
        Mutation(
            "trigger", "definition", "zoo.animals.touched",
            """
            DROP TRIGGER touched ON zoo.animals; CREATE TRIGGER touched BEFORE UPDATE OF kind, name ON zoo.animals
                FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION zoo.touch()
            """),
        Mutation("trigger", "enabled", "zoo.animals.touched", "ALTER TABLE zoo.animals DISABLE TRIGGER touched"),
        Mutation("trigger", "enabled", "zoo.animals.touched", "ALTER TABLE zoo.animals ENABLE ALWAYS TRIGGER touched"),
        Mutation("trigger", "comment", "zoo.animals.touched", "COMMENT ON TRIGGER touched ON zoo.animals IS 'x'"),
        Mutation(
            "rule", "definition", "zoo.keepers.no_delete",
            "CREATE OR REPLACE RULE no_delete AS ON DELETE TO zoo.keepers WHERE old.id = 2 DO INSTEAD NOTHING"),
        Mutation("rule", "enabled", "zoo.keepers.no_delete", "ALTER TABLE zoo.keepers DISABLE RULE no_delete"),
        Mutation("rule", "comment", "zoo.keepers.no_delete", "COMMENT ON RULE no_delete ON zoo.keepers IS 'x'"),
        Mutation(
            "policy", "command", "zoo.animals.seen",
            """
            DROP POLICY seen ON zoo.animals;
            CREATE POLICY seen ON zoo.animals TO zoo_visitor, "zoo keeper" USING (kind = 'bird')
            """),
        Mutation(
            "policy", "restrictive", "zoo.animals.seen",
            """
            DROP POLICY seen ON zoo.animals; CREATE POLICY seen ON zoo.animals AS RESTRICTIVE FOR SELECT
                TO zoo_visitor, "zoo keeper" USING (kind = 'bird')
            """),
        Mutation("policy", "roles", "zoo.animals.seen", "ALTER POLICY seen ON zoo.animals TO PUBLIC"),
        Mutation("policy", "using", "zoo.animals.seen", "ALTER POLICY seen ON zoo.animals USING (true)"),
        Mutation("policy", "with check", "zoo.animals.fed", "ALTER POLICY fed ON zoo.animals WITH CHECK (true)"),
        Mutation("policy", "comment", "zoo.animals.fed", "COMMENT ON POLICY fed ON zoo.animals IS 'x'"),
    ]
}
