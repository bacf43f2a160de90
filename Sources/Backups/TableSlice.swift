import Catalog
import Postgres
import SQL

/// A range of pages of a table. Several connections can read the slices of a large table in parallel.
struct TableSlice: Sendable, Hashable {
    let relation: DatabaseContent.Relation
    /// The range of pages. `first` is nil for the whole table; `end` is nil for the last slice of a table.
    let first: Int?
    let end: Int?

    /// The query for the fingerprint of the rows.
    var request: ContentFingerprint.Request {
        ContentFingerprint.Request(
            ObjectIdentity(.table, schema: relation.schema, relation.name), columns: relation.columns, where: condition)
    }

    /// The SQL condition on a row `t` of the table; nil: all rows.
    var condition: String? {
        guard let first else { return nil }
        let from = first > 0 ? "t.ctid >= '(\(first),0)'" : nil
        let to = end.map { "t.ctid < '(\($0),0)'" }
        let both = [from, to].compactMap(\.self)
        return both.isEmpty ? nil : both.joined(separator: " AND ")
    }

    /// - `large`: Tables of at least this size, in bytes, are stored in slices.
    /// - `smallest`: If the smaller tables together are large, `DumpPlan` also stores the largest of them in slices,
    ///   but none below this size: to start the programs for a slice takes as long as to dump some hundred kilobytes.
    /// - `bundle`: The size of the small tables that share a part, in bytes. Whoever wants one of them reads the part.
    /// - `slice`: The largest size of a slice, in bytes. A row that is changed costs the slice that it was in, and the
    ///   slice that PostgreSQL puts its new version into. A smaller slice costs more programs.
    /// - `mostSlices`: The slices of a table that would otherwise have more are larger.
    struct Sizes: Sendable {
        var large = 64 << 20
        var smallest = 4 << 20
        var bundle = 128 << 20
        var slice = 32 << 20
        var mostSlices = 256
    }

    static func isLarge(_ relation: DatabaseContent.Relation, _ sizes: Sizes) -> Bool {
        relation.schema != UserSchemas.ledger && relation.bytes >= sizes.large && relation.isHeap
            && relation.isSliceable && !relation.storedColumns.isEmpty
    }

    /// Returns the slices of a table. Their boundaries are the same in every backup as long as the table's size stays
    /// between the same two powers of two. So if rows were only appended to the table, only its last slices are dumped
    /// again. A table that is read only by COPY has one slice.
    ///
    /// - Parameter server: the version of the server. Before version 14, reading a slice would read the whole table, so
    ///   the only slice is the whole table.
    static func slices(
        of relation: DatabaseContent.Relation, server: Int, _ sizes: Sizes = Sizes()
    ) -> [TableSlice] {
        if isLarge(relation, sizes), relation.reading == .copy {
            return [TableSlice(relation: relation, first: 0, end: nil)]
        }
        guard isLarge(relation, sizes), relation.pages > 1, server >= 140_000 else {
            return [TableSlice(relation: relation, first: nil, end: nil)]
        }
        var pages = 1
        let wanted = Double(sizes.slice) * Double(relation.pages) / Double(relation.bytes)
        while Double(pages * 2) <= wanted || pages * sizes.mostSlices < relation.pages { pages *= 2 }
        let starts = Array(stride(from: 0, to: relation.pages, by: pages))
        return starts.map { TableSlice(relation: relation, first: $0, end: $0 == starts.last ? nil : $0 + pages) }
    }

    /// The start of the slice's script for psql; the rows and `footer` follow it. The settings are those under which
    /// the rows were written.
    var header: String {
        let columns = relation.storedColumns.map(quoteIdentifier).joined(separator: ", ")
        return """
            SET statement_timeout = 0;
            SET lock_timeout = 0;
            SET idle_in_transaction_session_timeout = 0;
            SET client_encoding = '\(relation.encoding)';
            SET standard_conforming_strings = on;
            SET search_path = '';
            SET row_security = off;
            COPY \(relation.root ?? relation.path) (\(columns)) FROM stdin;

            """
    }

    static let footer = "\\.\n"

    /// Reads the fingerprint of the rows. To be called after `ContentFingerprint.pinSettings`.
    func fingerprint(on connection: isolated Connection) throws -> ContentFingerprint {
        if relation.isOfCopy {
            var print = CopyFingerprint()
            try copyOut(on: connection) { print.add($0) }
            return print.result
        }
        return try ReadFailure.describing([relation]) {
            try connection.keepingSettings { try ContentFingerprint.read(request, on: connection) }
        }
    }

    /// Reads the rows, and passes them on in the format of COPY, without the header and the footer.
    func copyOut(
        on connection: isolated Connection, _ take: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        try ReadFailure.describing([relation]) {
            try connection.keepingSettings { try copyRows(on: connection, take) }
        }
    }

    private func copyRows(
        on connection: isolated Connection, _ take: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let columns = relation.storedColumns.map(quoteIdentifier).joined(separator: ", ")
        // COPY of a table plans no query.
        let source =
            relation.reading == .copy
            ? "\(relation.path) (\(columns))"
            : "(SELECT \(columns) FROM ONLY \(relation.path) t\(condition.map { " WHERE \($0)" } ?? ""))"
        _ = try connection.copyOut("COPY \(source) \(relation.toStandardOutput)", take)
    }
}
