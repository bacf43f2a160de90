import Processes
import SQL

/// Reads the rows of tables from the parts of a backup, as a script for psql that contains only COPY statements of our
/// own, and data.
struct RowSource: Sendable {
    private let restorer: Restorer
    private let tools: BackupTools
    private let tables: [StoredTable]
    private let routing: RowRouting
    private var manifest: Manifest { restorer.manifest }

    /// - Parameters:
    ///   - tools: the programs, set up for the database that takes the rows.
    ///   - tables: the tables in the backup.
    ///   - targets: the same tables under their names in the target, in the same order.
    init(_ restorer: Restorer, _ tools: BackupTools, _ tables: [StoredTable], as targets: [FetchedTable]) {
        self.restorer = restorer
        self.tools = tools
        self.tables = tables
        routing = RowRouting(tables, as: targets)
    }

    /// Returns whether the names of the tables and their columns are the same bytes in scripts with this encoding.
    static func canName(_ tables: [StoredTable], encoding: String) -> Bool {
        encoding == "UTF8"
            || tables.allSatisfy { table in
                ([table.table.schema, table.table.name] + table.columns).allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } }
            }
    }

    /// The parts that contain the rows: those of one table one after the other, in the order of the table's pages.
    var parts: [Manifest.Part] {
        let wanted = Set(tables.map { ExactText($0.table.path) })
        return manifest.parts.filter {
            $0.kind == .data && !wanted.isDisjoint(with: $0.tables.map(ExactText.init))
        }.sorted {
            ($0.tables.first ?? "", $0.slice?.firstPage ?? 0) < ($1.tables.first ?? "", $1.slice?.firstPage ?? 0)
        }
    }

    /// The settings under which the rows were written. The data of COPY has its own encoding.
    static let settings = """
        SET client_encoding = 'UTF8';
        SET standard_conforming_strings = on;
        SET statement_timeout = 0;
        SET idle_in_transaction_session_timeout = 0;
        SET row_security = off;
        SET DateStyle = 'ISO, MDY';
        SET IntervalStyle = 'postgres';
        SET xmloption = content;
        SELECT pg_catalog.set_config('search_path', '', false);

        """

    /// Writes the rows of all tables.
    ///
    /// - Throws: `BackupError.part` if a part is not what the manifest records, or if a table has another number of
    ///   rows than the manifest records; `PipelineError`, `StorageError`; the errors of `take`.
    func write(
        progress: @escaping Restorer.Progress, take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let parts = parts
        let reader = PartReader(restorer, parts: parts, progress)
        try Array(Self.settings.utf8).withUnsafeBytes(take)
        var rows: [FetchedTable: Int] = [:]
        for (part, group) in parts.flatMap({ part in routing.groups(in: part).map { (part, $0) } }) {
            try Task.checkCancellation()
            // Earlier versions of Reeve wrote all slices in UTF-8.
            let encodings = part.slice == nil ? [manifest.locale.encoding] : ["UTF8", manifest.locale.encoding]
            let stream = CopyStream(
                CopyFilter(
                    routing.destinations(of: group), encodings: encodings, target: tools.encoding))
            do {
                let programs = try programs(for: part, group.map(\.table))
                try await reader.unpack(part, through: programs, lastMayStopEarly: part.slice == nil) {
                    try stream.take($0, take)
                }
                var found = try stream.finish()
                // What was inserted into the root are rows of the only table of the script.
                if group.count == 1, let root = group[0].ancestors.last, let count = found.removeValue(forKey: root) {
                    found[group[0].table, default: 0] += count
                }
                rows.merge(found, uniquingKeysWith: +)
            } catch let error as CopyFilter.Malformed {
                throw BackupError.part(object: part.object, reason: "\(error)")
            }
        }
        if let reason = Self.missing(tables, of: manifest.tables, read: rows) {
            throw BackupError.part(object: manifest.prefix, reason: reason)
        }
    }

    /// Returns the programs that make a script of a part.
    private func programs(for part: Manifest.Part, _ wanted: [FetchedTable]) throws -> [Command] {
        if part.slice != nil { return [] }
        // These options also match a table that has the schema of one wanted table and the name of another. The filter
        // skips its rows.
        let options =
            Set(wanted.map { ExactText($0.schema) }).map { "--schema=\($0.text)" }.sorted()
            + Set(wanted.map { ExactText($0.name) }).map { "--table=\($0.text)" }.sorted()
        return [
            Command(tools.programs.path("pg_restore"), ["-Fc", "--data-only", "--no-tablespaces", "-f", "-"] + options)
        ]
    }

    /// Compares the numbers of rows that were read with those that the manifest records. Pure: no I/O.
    ///
    /// - Parameter rows: the numbers of rows by the table that the scripts named: the table itself, or the root of its
    ///   partitions.
    /// - Returns: a description of the first difference; nil if there is none.
    static func missing(
        _ tables: [StoredTable], of expected: [Manifest.Table], read rows: [FetchedTable: Int]
    ) -> String? {
        let expected = Dictionary(
            expected.map { (FetchedTable(schema: $0.schema, name: $0.name), $0.rows) }
        ) { one, _ in one }
        let families = Dictionary(grouping: tables.filter(\.hasRows)) { one in
            // Rows that were inserted into the root can only be compared as a whole.
            one.ancestors.last.flatMap { rows[$0] == nil ? nil : $0 } ?? one.table
        }
        for (head, members) in families.sorted(by: { $0.key < $1.key }) {
            let wanted = members.compactMap { expected[$0.table] }
            if wanted.isEmpty { continue }
            let found = Set(members.map(\.table) + [head]).reduce(0) { $0 + (rows[$1] ?? 0) }
            if found != wanted.reduce(0, +) {
                return "it has \(found) rows of \(head.path), but its manifest records \(wanted.reduce(0, +))"
            }
        }
        return nil
    }
}

/// Sends the output of a pipeline through a filter.
private final class CopyStream: @unchecked Sendable {
    // `filter` is used by the thread that reads the pipeline, and after that thread has ended.
    private var filter: CopyFilter

    init(_ filter: CopyFilter) { self.filter = filter }

    func take(_ bytes: UnsafeRawBufferPointer, _ pass: (UnsafeRawBufferPointer) throws -> Void) throws {
        try filter.take(bytes, pass)
    }

    /// Returns the numbers of rows.
    func finish() throws -> [FetchedTable: Int] {
        try filter.finish()
        return filter.rows
    }
}
