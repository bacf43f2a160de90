import Postgres

/// What the queries that read a catalog have in common.
struct QueryTerms: Sendable {
    /// The server's major version.
    let version: Int
    /// The schemas as a list of SQL literals.
    private let schemas: String
    /// The role whose ownership goes without saying, as an SQL expression.
    let owner: String

    init(version: Int, schemas: Set<ExactText>, owner: String?) {
        self.version = version
        self.schemas = schemas.sorted().map { quoteLiteral($0.text) }.joined(separator: ", ")
        self.owner = owner.map(quoteLiteral) ?? "current_user"
    }

    /// A condition: the namespace is one of those looked at.
    func isWanted(_ namespace: String) -> String { "\(namespace) = ANY (ARRAY[\(schemas)]::name[])" }

    /// The owner's name, where it does not go without saying.
    func owner(_ column: String) -> String { "nullif(pg_get_userbyid(\(column)), \(owner))" }

    func commentJoin(_ catalog: String, _ oid: String, part: String = "0") -> String {
        """
        LEFT JOIN pg_description obj
            ON obj.objoid = \(oid) AND obj.classoid = '\(catalog)'::regclass AND obj.objsubid = \(part)
        """
    }

    /// A condition: the object does not belong to an extension.
    func isOwn(_ catalog: String, _ oid: String) -> String {
        """
        NOT EXISTS (SELECT FROM pg_depend e
            WHERE e.classid = '\(catalog)'::regclass AND e.objid = \(oid) AND e.deptype = 'e')
        """
    }

    /// Spells a name-value pair for a list: as it is, or, if anything in it could be taken for the list's separators,
    /// with name and value in double quotes.
    ///
    /// - Parameter condition: a further condition under which the pair is spelled as it is.
    func pair(_ pair: String, orIf condition: String = "false") -> String {
        let quoted = { (text: String) in "'\"' || replace(\(text), '\"', '\"\"') || '\"'" }
        return """
            CASE WHEN \(pair) ~ '^[A-Za-z_][A-Za-z0-9_.$-]*=[^"''(),\\r\\n]*$' OR (\(condition)) THEN \(pair)
                ELSE \(quoted("split_part(\(pair), '=', 1)")) || '='
                    || \(quoted("substr(\(pair), strpos(\(pair), '=') + 1)")) END
            """
    }

    /// Storage options and the like: `a=1, b=2`, by name. `pg_attver` is a stamp of the server's own, which PostgreSQL
    /// 15.20 and its contemporaries write when a column is made or changed, and which pg_dump passes over.
    func options(_ array: String) -> String {
        """
        CASE WHEN \(array)[2] IS NOT NULL OR \(array)[1] !~ '^pg_attver=' THEN
            (SELECT string_agg(\(pair("o")), ', ' ORDER BY o COLLATE "C") FROM unnest(\(array)) o
                WHERE o !~ '^pg_attver=') END
        """
    }

    /// An expression for servers from a version on, another for older ones.
    func since(_ first: Int, _ expression: String, else other: String = "NULL") -> String {
        version >= first ? expression : other
    }

    /// The state of a trigger or rule, where it is not the usual one.
    func enabled(_ column: String) -> String {
        "CASE \(column) WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replica' WHEN 'A' THEN 'always' END"
    }

    /// The names of a relation's columns, by their numbers, in the numbers' order.
    func columns(_ relation: String, _ numbers: String) -> String {
        """
        (SELECT string_agg(quote_ident(ka.attname), ', ' ORDER BY k.n) FROM unnest(\(numbers)) WITH ORDINALITY k(a, n)
            JOIN pg_attribute ka ON ka.attrelid = \(relation) AND ka.attnum = k.a)
        """
    }
}

/// Reads the objects of some kinds: the first columns say which object it is, each other one is a property.
///
/// The first columns are `oid` (with `catalog:oid` for further rows that stand for the object), `part`, `kind`,
/// `schema`, `parent`, `name`, `signature`.
struct KindQuery: Sendable {
    /// The system catalog that `oid` is of.
    let catalog: String
    let sql: @Sendable (QueryTerms) -> String

    static let all =
        [schemas, extensions, eventTriggers, publications, foreignServers, casts]
        + [types, compositeTypes, collations, domainConstraints, operators, dictionaries, configurations]
        + [relations, columns, sequences, views]
        + [constraints, indexes, statistics]
        + [routines, aggregates, triggers, rules, policies, defaultPrivileges]
}
