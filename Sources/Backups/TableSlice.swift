import Postgres

/// A piece of a table that is read by itself, so that several connections share the work of a large one.
struct TableSlice: Sendable, Hashable {
    let relation: DatabaseContent.Relation
    /// The pages of the rows; nil: the whole table. The last slice of a table has no end.
    let first: Int?
    let end: Int?

    /// Which rows, of the table as `t`; nil: all.
    var condition: String? {
        guard let first else { return nil }
        let from = first > 0 ? "t.ctid >= '(\(first),0)'" : nil
        let to = end.map { "t.ctid < '(\($0),0)'" }
        let both = [from, to].compactMap(\.self)
        return both.isEmpty ? nil : both.joined(separator: " AND ")
    }

    /// From which size on tables are stored by themselves, and in pieces of about what size.
    struct Sizes: Sendable {
        var large = 64 << 20
        /// Unless there would be more than 64.
        var slice = 128 << 20
    }

    static func isLarge(_ relation: DatabaseContent.Relation, _ sizes: Sizes) -> Bool {
        relation.schema != UserSchemas.ledger && relation.bytes >= sizes.large && relation.isHeap
            && relation.reading != .copy
            && !relation.storedColumns.isEmpty
    }

    /// The slices of a table. Their ends are the same from backup to backup as long as the size stays of one power of two,
    /// so that what is only appended to is dumped from its last slice on.
    ///
    /// - Parameter server: before version 14 each slice would read the whole table; there it is one.
    static func slices(
        of relation: DatabaseContent.Relation, server: Int, _ sizes: Sizes = Sizes()
    ) -> [TableSlice] {
        guard isLarge(relation, sizes), relation.pages > 1, server >= 140_000 else {
            return [TableSlice(relation: relation, first: nil, end: nil)]
        }
        var pages = 1
        let wanted = Double(sizes.slice) * Double(relation.pages) / Double(relation.bytes)
        while Double(pages * 2) <= wanted || pages * 64 < relation.pages { pages *= 2 }
        let starts = Array(stride(from: 0, to: relation.pages, by: pages))
        return starts.map { TableSlice(relation: relation, first: $0, end: $0 == starts.last ? nil : $0 + pages) }
    }

    /// What psql reads before the rows; behind them comes `\.`. The settings are those that the rows are spelled with.
    var header: String {
        let columns = relation.storedColumns.map(quoteIdentifier).joined(separator: ", ")
        return """
            SET statement_timeout = 0;
            SET lock_timeout = 0;
            SET idle_in_transaction_session_timeout = 0;
            SET client_encoding = 'UTF8';
            SET standard_conforming_strings = on;
            SET search_path = '';
            SET row_security = off;
            COPY \(relation.path) (\(columns)) FROM stdin;

            """
    }

    static let footer = "\\.\n"

    /// Hands the rows over in the format of COPY, without the header and what comes behind.
    func copyOut(
        on connection: isolated Connection, _ take: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        func columns(of row: String) -> String {
            relation.storedColumns.map { "\(row).\(quoteIdentifier($0))" }.joined(separator: ", ")
        }
        let rows = "FROM ONLY \(relation.path) t\(condition.map { " WHERE \($0)" } ?? "")"
        guard case .owner(let role) = relation.reading else {
            try connection.copyOut("COPY (SELECT \(columns(of: "t")) \(rows)) TO STDOUT (ENCODING 'UTF8')", take)
            return
        }
        try connection.withQuery("SELECT t.* \(rows)", returning: "SETOF \(relation.path)", as: role) { call in
            // OFFSET 0: one call for all columns. In the list of a SELECT it gives row by row, and gathers none.
            let query = "SELECT \(columns(of: "(s.r)")) FROM (SELECT \(call) AS r OFFSET 0) s"
            _ = try connection.copyOut("COPY (\(query)) TO STDOUT (ENCODING 'UTF8')", take)
        }
    }
}
