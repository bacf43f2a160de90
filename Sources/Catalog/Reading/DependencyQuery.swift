/// Reads the dependencies between objects, except those on PostgreSQL's built-in objects (PostgreSQL manual, section
/// 53.18).
enum DependencyQuery {
    static let sql = """
        SELECT d.classid::regclass::text, d.objid::bigint, d.objsubid, d.refclassid::regclass::text,
            d.refobjid::bigint, d.refobjsubid
        FROM pg_depend d
        WHERE d.deptype IN ('n', 'a', 'i', 'P', 'S') AND d.refobjid >= 2200
        """
}

/// Counts the objects of the kinds that no query reads, in the schemas that are read. A comparison can then report that
/// it is incomplete.
enum UnsupportedKindsQuery {
    static func sql(_ terms: QueryTerms) -> String {
        let kinds = [
            ("operator classes", "pg_opclass", "opcnamespace"), ("operator families", "pg_opfamily", "opfnamespace"),
            ("conversions", "pg_conversion", "connamespace"), ("text search parsers", "pg_ts_parser", "prsnamespace"),
            ("text search templates", "pg_ts_template", "tmplnamespace"),
        ]
        let counts = kinds.map { words, catalog, column in
            """
            SELECT '\(words)' AS kind, count(*) AS number FROM \(catalog) x JOIN pg_namespace n ON n.oid = x.\(column)
            WHERE \(terms.isWanted("n.nspname")) AND \(terms.isOwn(catalog, "x.oid"))
            """
        }
        let baseTypes = """
            SELECT 'base types', count(*) FROM pg_type x JOIN pg_namespace n ON n.oid = x.typnamespace
            WHERE x.typtype = 'b' AND x.typelem = 0 AND \(terms.isWanted("n.nspname"))
                AND \(terms.isOwn("pg_type", "x.oid"))
            """
        let all = (counts + [baseTypes]).joined(separator: "\nUNION ALL\n")
        return "SELECT number || ' ' || kind FROM (\(all)) found WHERE number > 0 ORDER BY kind"
    }
}
