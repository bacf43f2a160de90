import Postgres
import SQL

/// The common parts of the queries that read a catalog.
struct QueryTerms: Sendable {
    /// The server's major version.
    let version: Int
    /// The schemas as a list of SQL literals.
    private let schemas: String
    /// The role whose ownership is not recorded as a property, as an SQL expression.
    let owner: String
    /// Whether the role may read the connection strings of subscriptions.
    var readsConnections = true

    init(version: Int, schemas: Set<ExactText>, owner: String?) {
        self.version = version
        self.schemas = schemas.sorted().map { quoteLiteral($0.text) }.joined(separator: ", ")
        self.owner = owner.map(quoteLiteral) ?? "current_user"
    }

    /// An SQL condition: whether the namespace is one of the schemas to read.
    func isWanted(_ namespace: String) -> String { "\(namespace) = ANY (ARRAY[\(schemas)]::name[])" }

    /// An SQL expression for the name of the owner; NULL if the owner is the role whose ownership is not recorded.
    func owner(_ column: String) -> String { "nullif(pg_get_userbyid(\(column)), \(owner))" }

    func commentJoin(_ catalog: String, _ oid: String, part: String = "0") -> String {
        """
        LEFT JOIN pg_description obj
            ON obj.objoid = \(oid) AND obj.classoid = '\(catalog)'::regclass AND obj.objsubid = \(part)
        """
    }

    /// An SQL condition: whether the object does not belong to an extension.
    func isOwn(_ catalog: String, _ oid: String) -> String {
        """
        NOT EXISTS (SELECT FROM pg_depend e
            WHERE e.classid = '\(catalog)'::regclass AND e.objid = \(oid) AND e.deptype = 'e')
        """
    }

    /// An SQL expression for a name-value pair in a list. The pair is unchanged, unless it contains a character that
    /// could be confused with a separator of the list. In that case the name and the value are in double quotes.
    ///
    /// - Parameter condition: another condition under which the pair is unchanged.
    func pair(_ pair: String, orIf condition: String = "false") -> String {
        let quoted = { (text: String) in "'\"' || replace(\(text), '\"', '\"\"') || '\"'" }
        return """
            CASE WHEN \(pair) ~ '^[A-Za-z_][A-Za-z0-9_.$-]*=[^"''(),\\r\\n]*$' OR (\(condition)) THEN \(pair)
                ELSE \(quoted("split_part(\(pair), '=', 1)")) || '='
                    || \(quoted("substr(\(pair), strpos(\(pair), '=') + 1)")) END
            """
    }

    /// An SQL expression for storage options and similar lists: `a=1, b=2`, ordered by name. The option `pg_attver` is
    /// left out: PostgreSQL 15.20, and the minor releases of other versions that appeared at the same time, set it
    /// internally when a column is created or changed. pg_dump ignores it, too.
    func options(_ array: String) -> String {
        """
        CASE WHEN \(array)[2] IS NOT NULL OR \(array)[1] !~ '^pg_attver=' THEN
            (SELECT string_agg(\(pair("o")), ', ' ORDER BY o COLLATE "C") FROM unnest(\(array)) o
                WHERE o !~ '^pg_attver=') END
        """
    }

    /// Returns one expression for servers of a version or newer, and another for older servers.
    func since(_ first: Int, _ expression: String, else other: String = "NULL") -> String {
        version >= first ? expression : other
    }

    /// An SQL expression for the state of a trigger or rule; NULL for the default state.
    func enabled(_ column: String) -> String {
        "CASE \(column) WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replica' WHEN 'A' THEN 'always' END"
    }

    /// An SQL expression for the names of a relation's columns, in the order of an array of their numbers.
    func columns(_ relation: String, _ numbers: String) -> String {
        """
        (SELECT string_agg(quote_ident(ka.attname), ', ' ORDER BY k.n) FROM unnest(\(numbers)) WITH ORDINALITY k(a, n)
            JOIN pg_attribute ka ON ka.attrelid = \(relation) AND ka.attnum = k.a)
        """
    }
}

/// A query that reads the objects of one or more kinds. The first columns identify the object. Each other column is a
/// property.
///
/// The first columns are `oid` (and `catalog:oid` for other rows that represent the object), `part`, `kind`, `schema`,
/// `parent`, `name`, `signature`.
struct KindQuery: Sendable {
    /// The system catalog to which the OIDs in the column `oid` belong.
    let catalog: String
    let sql: @Sendable (QueryTerms) -> String

    static let all =
        [schemas, extensions, eventTriggers, publications, foreignDataWrappers, foreignServers, userMappings, casts]
        + [types, compositeTypes, collations, domainConstraints, operators, dictionaries, configurations]
        + [relations, columns, sequences, views]
        + [constraints, indexes, statistics]
        + [routines, aggregates, triggers, rules, policies, defaultPrivileges]
}
