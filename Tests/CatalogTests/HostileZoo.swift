import Postgres
import SQL
import TestSupport
import Testing

/// A schema with objects of every kind whose names, values and texts are made to break out of wherever they are
/// written.
struct HostileZoo: Sendable {
    /// What leaves a trace where a part of it is run: the table `public.won`, or the file.
    static func attacks(file: String) -> [String] {
        [
            "x\n , ADD ATTRIBUTE y int; CREATE TABLE public.won(); --", "x\"; CREATE TABLE public.won(); --",
            "x'; CREATE TABLE public.won(); --", "x$mend$; CREATE TABLE public.won(); --",
            "x$function$; CREATE TABLE public.won(); --", "x\nCREATE TABLE public.won();",
            "x\rCREATE TABLE public.won();", "x\r\nCREATE TABLE public.won();", "x\n\\! touch \(file)",
            "x\\'; CREATE TABLE public.won(); --", "*/ CREATE TABLE public.won(); /*",
            "x)); CREATE TABLE public.won(); --",
            "x\"\u{301}; CREATE TABLE public.won(); --", "x'\u{301}; CREATE TABLE public.won(); --",
            "x\n  type: int\n\ntable public.won\n  a: b", "a=b, c=d", "a, b=\"c", "f(a, 'b", "\u{301}x\n\u{301}",
            ":USER", ":'USER'", ":\"USER\"", "E'\\", "$", "a\"b\"c", "(", ")", "none", "é", "e\u{301}",
            "$mend$ \\gexec", "@needs", " a ", "|3", "(owner)", "U&\"\\0061\"", "privileges of x: y",
        ]
    }

    private let names: [String]
    private let texts: [String]
    private let isChanged: Bool
    let roles: [String]

    /// What its names are made of.
    enum Attack: Sendable, CustomTestStringConvertible {
        /// All names and texts there are, in an order that follows from a number.
        case shuffled(UInt64)
        /// This one everywhere.
        case everywhere(Int)

        var testDescription: String { "\(self)" }

        var number: UInt64 {
            switch self {
            case .shuffled(let number): number
            case .everywhere(let number): UInt64(1000 + number)
            }
        }
    }

    /// - Parameters:
    ///   - isChanged: whether it has the same objects with other properties.
    ///   - file: what one of the names is to make, if it can.
    init(_ attack: Attack, isChanged: Bool = false, file: String) {
        let seed = attack.number
        var generator = SeededGenerator(seed &* 1_000_003)
        var seen: Set<ExactText> = []
        let known = (Self.attacks(file: file) + HostileNames.known).shuffled(using: &generator)
        let random = (0..<60).map { _ in HostileNames.name(&generator) }
        // Roles belong to all databases, and those of tests that run meanwhile are not these.
        roles = known.shuffled(using: &generator).prefix(3).map { "\(seed)\($0)".clipped(toBytes: 63) }
        var others = SeededGenerator(seed &* 1_000_033 + (isChanged ? 1 << 40 : 0))
        switch attack {
        case .shuffled:
            names = (known + random).filter { seen.insert(ExactText($0)).inserted && $0.utf8.count <= 63 }
            texts = (Self.attacks(file: file) + (0..<40).map { _ in HostileNames.text(&others, pieces: 1...40) })
                .shuffled(using: &others)
        case .everywhere(let number):
            let attack = Self.attacks(file: file)[number]
            names = (100..<200).map { "\(attack.clipped(toBytes: 60))\($0)" }
            texts = (100..<160).map { "\(isChanged ? "b" : "")\(attack)\($0)" }
        }
        self.isChanged = isChanged
    }

    // MARK: Names and texts

    private enum Place: Int {
        case schema, otherSchema, label1, label2, label3, size, code, positive, place, packed, house, street, number
        case spans, multi, german, idle, plain, words, wrapper, server, files, line, tickets, counter, animals, keepers,
            id
        case name, kind, weight, box, born, year, keeper, notes, primary, named, known, kept, apart, byKind, together
        case parents, children, visits, first, second, birds, title, counts, quiet, touched, touch, visited, seen, fed
        case count, argument, result, doubled, feed, total, add, like, asText, watch, eventTrigger, news, all, heap
        case option1, option2, option3, space, spelled, decomposed
    }

    private func name(_ place: Place) -> String { names[place.rawValue] }
    private func q(_ place: Place) -> String { quoteIdentifier(name(place)) }
    /// In the schema.
    private func s(_ place: Place) -> String { "\(q(.schema)).\(q(place))" }
    private func text(_ number: Int) -> String { quoteLiteral(texts[number % texts.count]) }
    private func role(_ number: Int) -> String { quoteIdentifier(roles[number]) }
    /// Options of foreign objects. Those with other names are hidden.
    private func option(_ place: Place) -> String {
        [.option1: "table_name", .option2: "filename", .option3: "dbname"][place] ?? "host"
    }

    var schemas: Set<ExactText> { [ExactText(name(.schema)), ExactText(name(.otherSchema)), "ré", "re\u{301}"] }

    /// What the catalog does not hold: made beforehand, in each database.
    var surroundings: [String] {
        [
            "CREATE FOREIGN DATA WRAPPER \(q(.wrapper))",
            "CREATE ACCESS METHOD \(q(.heap)) TYPE TABLE HANDLER heap_tableam_handler",
        ]
    }

    /// What belongs to the whole cluster.
    var common: [String] { roles.map { "CREATE ROLE \(quoteIdentifier($0))" } }

    // MARK: Objects

    var statements: [String] {
        ["SET check_function_bodies = off"] + types + textSearch + foreign + tables + partitions + routines + views
            + rules + publications + settings
            + comments + privileges
    }

    private var types: [String] {
        let label = { (place: Place) in quoteLiteral(name(place)) }
        let attributes =
            isChanged
            ? "\(q(.house)) integer, \(q(.number)) text"
            : "\(q(.house)) text COLLATE \(s(.german)), \(q(.street)) \(s(.size))"
        return [
            "CREATE SCHEMA \(q(.schema))", "CREATE SCHEMA \(q(.otherSchema))",
            "CREATE SCHEMA \"ré\"", "CREATE SCHEMA \"re\u{301}\"", "CREATE TABLE \"re\u{301}\".t (a integer)",
            "CREATE TABLE \"ré\".\"é\" (\"é\" integer, \"e\u{301}\" text\(isChanged ? ", c text" : ""))",
            "CREATE TABLE \"ré\".\"e\u{301}\" (a integer)",
            "CREATE EXTENSION pg_trgm WITH SCHEMA \(q(isChanged ? .otherSchema : .schema))",
            "CREATE COLLATION \(s(.german)) (provider = icu, locale = 'de-DE')",
            "CREATE TYPE \(s(.size)) AS ENUM (\(label(.label1))\(isChanged ? "" : ", " + label(.label2)), \(label(.label3)))",
            """
            CREATE DOMAIN \(s(.code)) AS text DEFAULT \(text(1)) CONSTRAINT \(q(.positive)) CHECK (VALUE <> \(text(2)))
            """,
            "CREATE TYPE \(s(.place)) AS (\(attributes))",
            "CREATE TYPE \(s(.packed)) AS (\(attributes))",
            "CREATE TYPE \(s(.spans)) AS RANGE (SUBTYPE = text, COLLATION = \(s(.german)), MULTIRANGE_TYPE_NAME = \(s(.multi)))",
        ]
    }

    private var textSearch: [String] {
        [
            "CREATE TEXT SEARCH DICTIONARY \(s(.idle)) (TEMPLATE = pg_catalog.simple)",
            "CREATE TEXT SEARCH DICTIONARY \(s(.plain)) (TEMPLATE = pg_catalog.simple\(isChanged ? "" : ", ACCEPT = 'false'"))",
            "CREATE TEXT SEARCH CONFIGURATION \(s(.words)) (PARSER = pg_catalog.\"default\")",
            """
            ALTER TEXT SEARCH CONFIGURATION \(s(.words)) ADD MAPPING FOR word, \(isChanged ? "asciiword" : "url_path, int")
                WITH \(s(.plain))\(isChanged ? "" : ", \(s(.idle))")
            """,
        ]
    }

    private var foreign: [String] {
        let options =
            "(\(option(.option1)) \(text(3)), \(option(.option2)) \(text(4))\(isChanged ? "" : ", \(option(.option3)) ''"))"
        return [
            """
            CREATE SERVER \(q(.server)) TYPE 'a' VERSION \(text(5)) FOREIGN DATA WRAPPER \(q(.wrapper)) OPTIONS \(options)
            """,
            "CREATE FOREIGN TABLE \(s(.files)) (\(q(.line)) text OPTIONS \(options)) SERVER \(q(.server)) OPTIONS \(options)",
        ]
    }

    private var tables: [String] {
        let animals = "ALTER TABLE \(s(.animals))"
        return [
            "CREATE SEQUENCE \(s(.tickets)) INCREMENT \(isChanged ? 2 : 3)",
            """
            CREATE TABLE \(s(.keepers)) (\(q(.id)) integer, CONSTRAINT \(q(.primary)) PRIMARY KEY (\(q(.id))))
                USING \(q(.heap)) WITH (fillfactor = \(isChanged ? 70 : 80))
            """,
            """
            CREATE TABLE \(s(.animals)) (
                \(q(.id)) bigint GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME \(s(.counter))),
                \(q(.name)) text COLLATE "C" NOT NULL DEFAULT \(text(6)),
                \(q(.kind)) \(s(.size)) DEFAULT \(quoteLiteral(name(.label1))),
                \(q(.weight)) \(s(.code)),
                \(q(.box)) \(s(.packed)),
                \(q(.born)) text,
                \(q(.year)) text GENERATED ALWAYS AS (\(q(.born)) || \(text(isChanged ? 7 : 8))) STORED,
                \(q(.keeper)) integer,
                CONSTRAINT \(q(.named)) UNIQUE (\(q(.name))) INCLUDE (\(q(.born))),
                CONSTRAINT \(q(.known)) CHECK (\(q(.name)) <> \(text(9))),
                CONSTRAINT \(q(.apart)) EXCLUDE USING btree (\(q(.keeper)) WITH =) WHERE (\(q(.born)) = \(text(10))),
                CONSTRAINT \(q(.kept)) FOREIGN KEY (\(q(.keeper))) REFERENCES \(s(.keepers)) (\(q(.id)))
                    ON DELETE SET NULL (\(q(.keeper)))
            ) WITH (autovacuum_enabled = \(isChanged), toast.autovacuum_enabled = \(isChanged))
            """,
            """
            INSERT INTO \(s(.animals)) (\(q(.name)), \(q(.kind)), \(q(.box)), \(q(.born))) VALUES ('a',
                \(quoteLiteral(name(.label3))), \(isChanged ? "ROW(1, 'x')" : "NULL"), \(text(11)))
            """,
            "ALTER SEQUENCE \(s(.tickets)) OWNED BY \(s(.animals)).\(q(.keeper))",
            "\(animals) \(isChanged ? "ENABLE" : "DISABLE") TRIGGER ALL",
            "\(animals) ALTER \(q(.name)) SET STATISTICS \(isChanged ? 10 : 20)",
            isChanged
                ? "\(animals) ALTER \(q(.name)) SET STORAGE external"
                : "\(animals) ALTER \(q(.name)) SET (n_distinct = 2)",
            """
            CREATE INDEX \(q(.byKind)) ON \(s(.animals)) (lower(\(q(.name))), \(q(.keeper))) INCLUDE (\(q(.kind)))
                WITH (fillfactor = \(isChanged ? 50 : 60)) WHERE \(q(.name)) <> \(text(12))
            """,
            "ALTER INDEX \(s(.byKind)) ALTER COLUMN 1 SET STATISTICS \(isChanged ? 10 : 20)",
            "\(animals) REPLICA IDENTITY USING INDEX \(q(.named))",
            "\(animals) \(isChanged ? "CLUSTER ON \(q(.named))" : "SET WITHOUT CLUSTER")",
            "CREATE STATISTICS \(s(.together)) (dependencies) ON \(q(.name)), \(q(.born)) FROM \(s(.animals))",
            "ALTER STATISTICS \(s(.together)) SET STATISTICS \(isChanged ? 10 : 20)",
        ]
    }

    private var partitions: [String] {
        [
            "CREATE TABLE \(s(.parents)) (\(q(.id)) integer, \(q(.notes)) text)",
            "CREATE TABLE \(s(.children)) (\(isChanged ? "" : "\(q(.born)) text")) INHERITS (\(s(.parents)))",
            "CREATE TABLE \(s(.visits)) (\(q(.born)) text, \(q(.notes)) text) PARTITION BY LIST (\(q(.born)))",
            "CREATE TABLE \(s(.first)) PARTITION OF \(s(.visits)) FOR VALUES IN (\(text(13)), 'a')",
            "CREATE TABLE \(s(.second)) PARTITION OF \(s(.visits)) DEFAULT",
        ]
    }

    private var routines: [String] {
        let body = isChanged ? "SELECT 1 -- \(texts[14].substituting("\0", with: "")) \n, 2" : "\(texts[15])$function$"
        return [
            """
            CREATE FUNCTION \(s(.count))(\(q(.argument)) text DEFAULT \(text(16)), \(q(.result)) \(s(.size)) DEFAULT NULL)
                RETURNS TABLE (\(q(.born)) text, \(q(.box)) \(s(.packed))) LANGUAGE sql
                SET search_path = \(q(.schema)), \(q(isChanged ? .id : .otherSchema)), \(quoteIdentifier("A \"b\"")), pg_temp
                SET application_name = \(text(17)) SET "x.y" = \(text(18)) SET work_mem = '\(isChanged ? 4 : 8)MB'
                SET datestyle = 'ISO, DMY' AS \(quoteLiteral(body))
            """,
            """
            CREATE FUNCTION \(s(.doubled))(\(q(.argument)) text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC
                SELECT \(q(.argument)) || \(text(19)) AS \(q(.result)); SELECT \(text(20)) AS \(q(.title)); END
            """,
            "CREATE PROCEDURE \(s(.feed))(INOUT \(q(.argument)) integer) LANGUAGE plpgsql AS 'BEGIN END'",
            "CREATE FUNCTION \(s(.add))(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || $2'",
            "CREATE AGGREGATE \(s(.total))(text) (SFUNC = \(s(.add)), STYPE = text, INITCOND = \(text(21)))",
            "CREATE FUNCTION \(s(.like))(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2'",
            "CREATE OPERATOR \(q(.schema)).<=> (FUNCTION = \(s(.like)), LEFTARG = text, RIGHTARG = text)",
            """
            CREATE OPERATOR \(q(.schema)).=== (FUNCTION = \(s(.like)), LEFTARG = text, RIGHTARG = text,
                COMMUTATOR = OPERATOR(\(q(.schema)).===)\(isChanged ? "" : ", NEGATOR = OPERATOR(\(q(.schema)).<=>)"))
            """,
            "CREATE FUNCTION \(s(.asText))(\(s(.place))) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT \(isChanged ? 1 : 2)'",
            "CREATE CAST (\(s(.place)) AS text) WITH FUNCTION \(s(.asText))(\(s(.place)))",
            """
            CREATE FUNCTION \(s(.touch))() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS 'BEGIN RETURN NEW; END'
            """,
            "CREATE FUNCTION \(s(.watch))() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            """
            CREATE EVENT TRIGGER \(q(.eventTrigger)) ON ddl_command_end WHEN TAG IN ('\(isChanged ? "CREATE" : "ALTER") TABLE')
                EXECUTE FUNCTION \(s(.watch))()
            """,
        ]
    }

    private var views: [String] {
        [
            """
            CREATE VIEW \(s(.birds)) WITH (security_barrier = \(isChanged)) AS SELECT \(q(.id)), \(q(.name)) AS \(q(.title)),
                \(s(.doubled))(\(q(.born))) AS \(q(.spelled)) FROM \(s(.animals)) WHERE \(q(.name)) <> \(text(22))
            """,
            "ALTER VIEW \(s(.birds)) ALTER COLUMN \(q(.title)) SET DEFAULT \(text(23))",
            """
            CREATE MATERIALIZED VIEW \(s(.counts)) USING \(q(.heap)) AS SELECT \(q(.title)), \(text(24)) AS \(q(.result))
                FROM \(s(.birds)) \(q(.decomposed))
            """,
        ]
    }

    private var rules: [String] {
        [
            "CREATE RULE \(q(.quiet)) AS ON DELETE TO \(s(.keepers)) WHERE \(text(25)) = 'a' DO INSTEAD NOTHING",
            """
            CREATE TRIGGER \(q(.touched)) BEFORE UPDATE OF \(q(.name)) ON \(s(.animals)) FOR EACH ROW
                WHEN (OLD.\(q(.name)) = \(text(26))) EXECUTE FUNCTION \(s(.touch))(\(text(27)), \(text(28)))
            """,
            "ALTER TABLE \(s(.animals)) \(isChanged ? "ENABLE ALWAYS" : "ENABLE REPLICA") TRIGGER \(q(.touched))",
            """
            CREATE TRIGGER \(q(.visited)) AFTER INSERT ON \(s(.visits)) FOR EACH ROW EXECUTE FUNCTION \(s(.touch))(\(text(29)))
            """,
            "ALTER TABLE \(s(isChanged ? .first : .second)) DISABLE TRIGGER \(q(.visited))",
            "ALTER TABLE \(s(.animals)) ENABLE ROW LEVEL SECURITY",
            """
            CREATE POLICY \(q(.seen)) ON \(s(.animals)) FOR SELECT TO \(role(0))\(isChanged ? "" : ", \(role(1))")
                USING (\(q(.name)) = \(text(30)))
            """,
            "CREATE POLICY \(q(.fed)) ON \(s(.animals)) USING (true) WITH CHECK (\(q(.born)) = \(text(31)))",
        ]
    }

    private var publications: [String] {
        let columns = isChanged ? [q(.id), q(.name)] : [q(.id), q(.name), q(.born)]
        return [
            """
            CREATE PUBLICATION \(q(.news)) FOR TABLE \(s(.animals)) (\(columns.joined(separator: ", ")))
                WHERE (\(q(.name)) = \(text(32))), ONLY \(s(.parents)) WHERE (\(q(.notes)) <> \(text(33)))
            """,
            "CREATE PUBLICATION \(q(.all)) FOR TABLES IN SCHEMA \(q(.schema))\(isChanged ? "" : ", \(q(.otherSchema))")",
        ]
    }

    /// Behind each statement that only this variant has.
    private var settings: [String] {
        [
            "ALTER TABLE \(s(.keepers)) OWNER TO \(role(isChanged ? 1 : 2))",
            "ALTER FUNCTION \(s(.doubled))(text) OWNER TO \(role(2))",
            "ALTER TYPE \(s(.size)) OWNER TO \(role(isChanged ? 0 : 2))",
        ]
    }

    private var comments: [String] {
        let targets = [
            "SCHEMA \(q(.schema))", "COLLATION \(s(.german))", "TYPE \(s(.size))", "DOMAIN \(s(.code))",
            "CONSTRAINT \(q(.positive)) ON DOMAIN \(s(.code))", "TYPE \(s(.place))",
            "COLUMN \(s(.packed)).\(q(.house))",
            "TYPE \(s(.spans))", "TEXT SEARCH DICTIONARY \(s(.plain))", "TEXT SEARCH CONFIGURATION \(s(.words))",
            "SERVER \(q(.server))", "FOREIGN TABLE \(s(.files))", "COLUMN \(s(.files)).\(q(.line))",
            "SEQUENCE \(s(.tickets))", "TABLE \(s(.animals))", "COLUMN \(s(.animals)).\(q(.name))",
            "CONSTRAINT \(q(.known)) ON \(s(.animals))", "CONSTRAINT \(q(.kept)) ON \(s(.animals))",
            "INDEX \(s(.byKind))", "STATISTICS \(s(.together))", "VIEW \(s(.birds))",
            "COLUMN \(s(.birds)).\(q(.title))",
            "MATERIALIZED VIEW \(s(.counts))", "COLUMN \(s(.counts)).\(q(.title))",
            "RULE \(q(.quiet)) ON \(s(.keepers))", "TRIGGER \(q(.touched)) ON \(s(.animals))",
            "POLICY \(q(.seen)) ON \(s(.animals))", "FUNCTION \(s(.doubled))(text)", "PROCEDURE \(s(.feed))(integer)",
            "AGGREGATE \(s(.total))(text)", "OPERATOR \(q(.schema)).<=> (text, text)", "CAST (\(s(.place)) AS text)",
            "EVENT TRIGGER \(q(.eventTrigger))", "PUBLICATION \(q(.news))",
        ]
        return targets.enumerated().map { "COMMENT ON \($1) IS \(text($0 + (isChanged ? 0 : 40)))" }
    }

    private var privileges: [String] {
        let objects = [
            "USAGE ON SCHEMA \(q(.schema))", "SELECT, INSERT ON \(s(.animals))",
            "UPDATE (\(q(.name))) ON \(s(.animals))",
            "SELECT ON \(s(.birds))", "SELECT (\(q(.title))) ON \(s(.birds))", "USAGE ON SEQUENCE \(s(.tickets))",
            "EXECUTE ON FUNCTION \(s(.doubled))(text)", "EXECUTE ON PROCEDURE \(s(.feed))(integer)",
            "EXECUTE ON FUNCTION \(s(.total))(text)", "USAGE ON TYPE \(s(.size))", "USAGE ON DOMAIN \(s(.code))",
            "USAGE ON TYPE \(s(.place))", "USAGE ON FOREIGN SERVER \(q(.server))", "SELECT ON \(s(.files))",
        ]
        return objects.enumerated().map {
            "GRANT \($1) TO \(role(isChanged ? $0 % 2 : 1))\($0 % 3 == 0 ? " WITH GRANT OPTION" : "")"
        } + [
            """
            ALTER DEFAULT PRIVILEGES FOR ROLE \(role(2)) IN SCHEMA \(q(.schema)) GRANT SELECT ON TABLES
                TO \(role(isChanged ? 0 : 1))
            """,
            "ALTER DEFAULT PRIVILEGES FOR ROLE \(role(2)) GRANT USAGE ON SEQUENCES TO \(role(isChanged ? 1 : 0))",
        ]
    }
}
