import Catalog
import Foundation
import Hashing
import Postgres
import Reporting
import SQL

/// Compares a database with a manifest.
struct Comparison: Sendable {
    let manifest: Manifest
    let restorer: Restorer
    let target: ConnectionSettings

    private var session: ConnectionSettings { target.restoring.named("reeve restore test") }

    func differences() async throws -> [RestoreDifference] {
        var result = try await tables()
        result += try await Connection.opened(session) { connection in
            try await connection.with { try others(on: $0) }
        }
        return try await result + schema() + partsBeside()
    }

    /// Reads the parts that a restore may do without, so that a backup with any damaged part is not proved. The catalog
    /// must be the one whose hash the manifest records.
    private func partsBeside() async throws -> [RestoreDifference] {
        var result: [RestoreDifference] = []
        for part in manifest.parts where [.catalog, .roles].contains(part.kind) {
            let text = try await restorer.text(of: part)
            guard part.kind == .catalog, Digest.hex(Digest.of(text.utf8)) != manifest.catalog else { continue }
            result.append(
                RestoreDifference(
                    kind: "part", object: part.object, expected: "the catalog \(manifest.catalog)", found: "another"))
        }
        return result
    }

    private func tables() async throws -> [RestoreDifference] {
        let (all, server) = try await Connection.opened(session) { connection in
            try await connection.with { (try DatabaseContent.relations(on: $0), $0.serverVersion) }
        }
        // Each table is hashed as it was for the manifest: the output of COPY, or by a query. The reading is confined,
        // because planning a query can run code from the backup, even if the manifest records that a query may be used.
        let copied = Set(manifest.tables.filter { $0.isOfCopy == true }.map { ExactText($0.path) })
        let relations = all.map { relation in
            var relation = relation
            relation.isOfCopy = copied.contains(ExactText(relation.path))
            if !relation.isOfCopy || relation.reading != .copy { relation.reading = .direct }
            return relation
        }
        let readers = ContentReaders(target.restoring, count: restorer.settings.jobs)
        let prints = try await Confinement.during(in: session) { _ in
            try await readers.prints(of: relations, server: server)
        }
        let found = Dictionary(prints.map { (ExactText($0.key.path), $0.value) }) { one, _ in one }
        // A table that the manifest leaves out would be compared with nothing.
        let known = Set(manifest.tables.map { ExactText($0.path) })
        let unknown = all.filter { $0.hasRows && !known.contains(ExactText($0.path)) }.map {
            RestoreDifference(
                kind: "table", object: "\($0.schema).\($0.name)", expected: "not in the manifest", found: "restored")
        }
        return unknown
            + manifest.tables.compactMap { table in
                let name = "\(table.schema).\(table.name)"
                guard let other = found[ExactText(table.path)] else {
                    return RestoreDifference(
                        kind: "table", object: name, expected: counted(table.rows, "row"), found: "missing")
                }
                return table.root == nil
                    ? Self.difference(name, expected: ContentFingerprint(rows: table.rows, digest: table.digest), other)
                    : nil
            } + routedTables(found)
    }

    /// Compares the partitions whose rows OIDs distribute: the sums of the fingerprints of all partitions of a table.
    private func routedTables(_ found: [ExactText: ContentFingerprint]) -> [RestoreDifference] {
        let nothing = ContentFingerprint(rows: 0, digest: String(repeating: "0", count: 32))
        return Self.roots(manifest.tables).compactMap { root, partitions in
            let expected = partitions.reduce(nothing) {
                $0 + ContentFingerprint(rows: $1.rows, digest: $1.digest)
            }
            let there = partitions.compactMap { found[ExactText($0.path)] }.reduce(nothing, +)
            return Self.difference(root.text, expected: expected, there)
        }
    }

    /// Returns the tables that are compared as a whole, with their partitions.
    static func roots(_ tables: [Manifest.Table]) -> [(root: ExactText, partitions: [Manifest.Table])] {
        Dictionary(grouping: tables.filter { $0.root != nil }) { ExactText($0.root ?? "") }
            .sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    private static func difference(
        _ table: String, expected: ContentFingerprint, _ found: ContentFingerprint
    ) -> RestoreDifference? {
        if found.rows != expected.rows {
            return RestoreDifference(
                kind: "table", object: table, expected: counted(expected.rows, "row"),
                found: counted(found.rows, "row"))
        }
        if found.digest == expected.digest { return nil }
        return RestoreDifference(
            kind: "table", object: table, expected: "content \(expected.digest)", found: "content \(found.digest)")
    }

    /// What pg_dump and pg_dumpall leave out, and what belongs to the server and not to the database.
    static let never = [
        "planner statistics (run ANALYZE after a restore)", "the passwords of roles",
        "tablespaces, and the privileges on tablespaces and server parameters",
        "comments on inherited triggers, foreign keys and constraints",
        "changed members of extensions, except for grants",
        "whether subscriptions are enabled (a restore disables them)",
    ]

    /// Describes what the comparison does not cover.
    func notCompared() async throws -> [String] {
        let (relations, locale, lacking, hasViews) = try await Connection.opened(session) { connection in
            try await connection.with {
                (
                    try DatabaseContent.relations(on: $0), try DatabaseLocale.read(on: $0),
                    try lackingTablespaces(on: $0),
                    try !$0.query("SELECT FROM pg_class WHERE relkind = 'm' AND relispopulated LIMIT 1").isEmpty
                )
            }
        }
        let copied = Set(manifest.tables.filter { $0.isOfCopy == true }.map { ExactText($0.path) })
        var notes = relations.filter {
            copied.contains(ExactText($0.path)) && $0.columns.count > $0.storedColumns.count
        }.map { "generated columns of \($0.schema).\($0.name), because the table could be read only by COPY" }
        notes += Self.roots(manifest.tables).map {
            "which partition of \($0.root.text) has which rows, because this depends on OIDs; the rows are compared as "
                + "those of the whole table"
        }
        notes += lacking.map { "the tablespace of the objects in '\(visible($0))', which the server lacks" }
        if hasViews { notes.append("the rows of materialized views, because a restore refreshes the views") }
        if locale != manifest.locale { notes.append("the locale, which the server lacks") }
        if manifest.largeObjects == nil {
            notes.append("the content of large objects, which the role that made the backup may not read")
        }
        if manifest.access?.isTemplate == nil {
            notes.append("the comment and the template flag of the database, which the backup does not record")
        }
        notes += try await unrecorded()
        return notes + Self.never
    }

    /// Describes what the backup's catalog does not contain.
    private func unrecorded() async throws -> [String] {
        var recorded: DatabaseAttributes?
        if let part = manifest.parts.first(where: { $0.kind == .catalog }) {
            let text = try await restorer.text(of: part)
            recorded = (try? SchemaSnapshot.parse(text, file: part.object).notes).flatMap(attributes)
        }
        guard let recorded else {
            return [
                "operator classes and families, conversions, text search parsers and templates, access methods, "
                    + "languages, transforms, base types, subscriptions, security labels, the population of "
                    + "materialized views, and the owners and comments of large objects, which the backup does not "
                    + "record"
            ]
        }
        return recorded.unread
    }

    /// Returns the backup's tablespaces that the server does not have.
    private func lackingTablespaces(on connection: isolated Connection) throws -> [String] {
        let there = Set(
            try connection.query("SELECT spcname::text FROM pg_tablespace").map { ExactText(try $0.get(0)) })
        return manifest.tablespaces.filter { !there.contains(ExactText($0)) }
    }

    private func others(on connection: isolated Connection) throws -> [RestoreDifference] {
        var result: [RestoreDifference] = []
        let relations = try DatabaseContent.relations(on: connection)
        let values = try DatabaseContent.sequenceValues(relations, on: connection)
        for sequence in manifest.sequences {
            let path = ObjectIdentity(.table, schema: sequence.schema, sequence.name).description
            let found = values[ExactText(path)]
            if found == sequence { continue }
            result.append(
                RestoreDifference(
                    kind: "sequence", object: "\(sequence.schema).\(sequence.name)", expected: Self.spelled(sequence),
                    found: found.map(Self.spelled) ?? "missing"))
        }
        if let expected = manifest.largeObjects {
            let found = try connection.transaction { try DatabaseContent.largeObjects(on: connection) }
            if found != expected {
                result.append(
                    RestoreDifference(
                        kind: "large objects", object: "all", expected: "\(expected.count), content \(expected.digest)",
                        found: found.map { "\($0.count), content \($0.digest)" } ?? "unreadable"))
            }
        }
        let extensions = try DatabaseContent.needs(on: connection).extensions
        for (name, version) in manifest.extensions.sorted(by: { $0.key < $1.key }) where extensions[name] != version {
            result.append(
                RestoreDifference(
                    kind: "extension", object: name, expected: version, found: extensions[name] ?? "missing"))
        }
        if let access = manifest.access {
            let found = try DatabaseAccess.read(on: connection)
            if !access.isMet(by: found) {
                result.append(
                    RestoreDifference(
                        kind: "database", object: "access", expected: access.description, found: found.description))
            }
        }
        result += settings(try DatabaseContent.settings(on: connection).accepted)
        let roles = Set(try DatabaseContent.roles(on: connection))
        for role in manifest.roles where !roles.contains(role) {
            let name = role.prefix { $0 != ":" }
            let other = roles.first { $0.hasPrefix("\(name): ") }
            result.append(
                RestoreDifference(kind: "role", object: String(name), expected: role, found: other ?? "missing"))
        }
        return result
    }

    /// Compares the settings of the database, and of roles in it.
    private func settings(_ found: [String]) -> [RestoreDifference] {
        let (wanted, there) = (Set(manifest.settings.map(ExactText.init)), Set(found.map(ExactText.init)))
        return wanted.symmetricDifference(there).sorted().map {
            RestoreDifference(
                kind: "setting", object: $0.text.replacingOccurrences(of: "%database%", with: manifest.shownSource),
                expected: wanted.contains($0) ? "set" : "not set", found: there.contains($0) ? "set" : "not set")
        }
    }

    private static func spelled(_ sequence: Manifest.Sequence) -> String {
        "\(sequence.value)" + (sequence.isCalled ? "" : ", not used yet")
    }

    private func schema() async throws -> [RestoreDifference] {
        let (found, lacking) = try await Connection.opened(session) { connection in
            try await connection.with { (try DatabaseContent.schema(nil, on: $0), try lackingTablespaces(on: $0)) }
        }
        if Digest.hex(Digest.of(found.utf8)) == manifest.catalog { return [] }
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else {
            return [RestoreDifference(kind: "schema", object: "all", expected: manifest.catalog, found: "another")]
        }
        let expected = try await restorer.text(of: part)
        do {
            return try differences(
                SchemaSnapshot.parse(expected, file: part.object), SchemaSnapshot.parse(found, file: "restored")
            ).filter { !($0.object.hasSuffix(": tablespace") && lacking.contains($0.expected)) }
        } catch let error as SnapshotError {
            return [RestoreDifference(kind: "schema", object: "all", expected: "equal", found: "unreadable: \(error)")]
        }
    }

    /// Compares the texts of two catalogs, with the attributes in their headers.
    private func differences(
        _ expected: (catalog: SchemaCatalog, notes: [String: String]),
        _ found: (catalog: SchemaCatalog, notes: [String: String])
    ) throws -> [RestoreDifference] {
        let differences = CatalogDiff().differences(expected: expected.catalog, found: found.catalog)
        let others = attributes(expected.notes).flatMap { wanted in
            attributes(found.notes).map {
                wanted.differences(
                    from: $0, isSameVersion: expected.catalog.serverVersion == found.catalog.serverVersion)
            }
        }
        return differences.map { difference in
            RestoreDifference(
                kind: difference.object.kind.name,
                object: "\(difference.object)" + (difference.property.map { ": \($0)" } ?? ""),
                expected: difference.expected ?? "default", found: difference.found ?? "missing")
        } + (others ?? [])
    }

    private func attributes(_ notes: [String: String]) -> DatabaseAttributes? {
        notes[DatabaseAttributes.note].flatMap { DatabaseAttributes($0) }
    }
}
