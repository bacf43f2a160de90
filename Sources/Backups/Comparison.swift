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

    func differences() async throws -> [RestoreDifference] {
        var result = try await tables()
        result += try await Connection.opened(target.restoring.named("reeve restore test")) { connection in
            try await connection.with { try others(on: $0) }
        }
        return result + (try await schema())
    }

    private func tables() async throws -> [RestoreDifference] {
        let (all, server) = try await Connection.opened(target) { connection in
            try await connection.with { (try DatabaseContent.relations(on: $0), $0.serverVersion) }
        }
        // Each table is read as it was for the manifest: by COPY, or by a query. The reading is confined, because
        // planning a query can run code from the backup, even if the manifest records that a query may be used.
        let copied = Set(manifest.tables.filter { $0.isOfCopy == true }.map { ExactText($0.path) })
        let relations = all.map { relation in
            var relation = relation
            relation.reading = copied.contains(ExactText(relation.path)) ? .copy : .direct
            return relation
        }
        let readers = ContentReaders(target, count: restorer.settings.jobs)
        let prints = try await Confinement.during(in: target.restoring.named("reeve restore test")) { _ in
            try await readers.prints(of: relations, server: server)
        }
        let found = Dictionary(prints.map { (ExactText($0.key.path), $0.value) }) { one, _ in one }
        return manifest.tables.compactMap { table in
            let name = "\(table.schema).\(table.name)"
            guard let other = found[ExactText(table.path)] else {
                return RestoreDifference(
                    kind: "table", object: name, expected: counted(table.rows, "row"), found: "missing")
            }
            if other.rows != table.rows {
                return RestoreDifference(
                    kind: "table", object: name, expected: counted(table.rows, "row"), found: counted(other.rows, "row")
                )
            }
            guard other.digest != table.digest else { return nil }
            return RestoreDifference(
                kind: "table", object: name, expected: "content \(table.digest)", found: "content \(other.digest)")
        }
    }

    /// Describes the columns whose contents the fingerprints in the manifest do not cover.
    func notCompared() async throws -> [String] {
        let copied = Set(manifest.tables.filter { $0.isOfCopy == true }.map { ExactText($0.path) })
        if copied.isEmpty { return [] }
        let relations = try await Connection.opened(target) { connection in
            try await connection.with { try DatabaseContent.relations(on: $0) }
        }
        return relations.filter {
            copied.contains(ExactText($0.path)) && $0.columns.count > $0.storedColumns.count
        }.map { "generated columns of \($0.schema).\($0.name), because the table could be read only by COPY" }
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
        let roles = Set(try DatabaseContent.roles(on: connection))
        for role in manifest.roles where !roles.contains(role) {
            let name = role.prefix { $0 != ":" }
            let other = roles.first { $0.hasPrefix("\(name): ") }
            result.append(
                RestoreDifference(kind: "role", object: String(name), expected: role, found: other ?? "missing"))
        }
        return result
    }

    private static func spelled(_ sequence: Manifest.Sequence) -> String {
        "\(sequence.value)" + (sequence.isCalled ? "" : ", not used yet")
    }

    private func schema() async throws -> [RestoreDifference] {
        let found = try await Connection.opened(target) { connection in
            try await connection.with { try DatabaseContent.schema(nil, on: $0) }
        }
        if Digest.hex(Digest.of(found.utf8)) == manifest.catalog { return [] }
        guard let part = manifest.parts.first(where: { $0.kind == .catalog }) else {
            return [RestoreDifference(kind: "schema", object: "all", expected: manifest.catalog, found: "another")]
        }
        let expected = try await restorer.text(of: part)
        let differences = CatalogDiff().differences(
            expected: try SchemaSnapshot.parse(expected, file: part.object).catalog,
            found: try SchemaSnapshot.parse(found, file: "restored").catalog)
        return differences.map { difference in
            RestoreDifference(
                kind: difference.object.kind.name,
                object: "\(difference.object)" + (difference.property.map { ": \($0)" } ?? ""),
                expected: difference.expected ?? "default", found: difference.found ?? "missing")
        }
    }
}
