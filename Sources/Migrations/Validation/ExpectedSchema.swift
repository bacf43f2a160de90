import Catalog
import Foundation
import Hashing
import Ledger
import Postgres
import Reporting
import SQL
import Telemetry

/// The schema that migrations create, and the source of that information.
public struct ExpectedSchema: Sendable {
    public enum Source: Sendable, Equatable {
        /// From a replay in this call.
        case replay
        /// From the cache of an earlier replay.
        case cache
        /// From the snapshots in the folders of the migrations.
        case snapshots
    }

    public var catalog: SchemaCatalog
    public let source: Source
    let selections: [MigrationSelection]

    /// Returns whether one of the migrations contains the name of an object.
    public func names(_ identity: ObjectIdentity) -> Bool { selections.contains { $0.names(identity) } }
}

/// Whether a scratch database may be created.
public enum ScratchPolicy: String, Sendable, CaseIterable {
    /// The scratch database is created if the role may create databases. Otherwise the committed snapshots are used.
    case auto
    case always, never
}

/// Finds the schema that migrations create: from the cache, by a replay, or from the committed snapshots.
struct ExpectedSchemaFinder: Sendable {
    /// The version of the cache's format. It changes whenever the catalog's spelling changes, so that a cache from an
    /// older version of the program is not used.
    private static let format = "3"
    /// The name of a committed snapshot in a system's folder.
    static let snapshotName = "schema.snapshot"

    let selections: [MigrationSelection]
    /// The server on which a scratch database may be created.
    let server: ConnectionSettings
    /// The server's version number.
    let serverVersion: Int
    /// The settings and the locale of the database, and the role that replays, which change what the migrations create.
    let meaning: String
    /// The roles of the server.
    let roles: [String]
    let policy: ScratchPolicy
    /// The folder in which replays are cached; nil: no cache.
    let cacheFolder: String?
    let logger: Logger

    /// - Throws: `PostgresError`, `MigrationError`; `ValidationError` if neither a scratch database nor a committed
    ///   snapshot can be used; `SnapshotError` if a committed snapshot cannot be parsed.
    func find() async throws -> ExpectedSchema {
        if let cached = cached?.catalog { return schema(cached, .cache) }
        if policy == .never { return schema(try committed(), .snapshots) }
        do {
            let catalog = try await SchemaReplay(selections: selections).run(beside: server)
            writeCache(catalog)
            return schema(catalog, .replay)
        } catch let error as PostgresError where error.sqlState == "42501" && policy == .auto {
            logger.info("a scratch database cannot be created", [LogField("error", error.message)])
            return schema(try committed(), .snapshots)
        }
    }

    func schema(_ catalog: SchemaCatalog, _ source: ExpectedSchema.Source) -> ExpectedSchema {
        ExpectedSchema(catalog: catalog, source: source, selections: selections)
    }

    // MARK: Cache

    private var key: String {
        var digest = Digest()
        digest.update("\(Self.format)\u{0}\(serverVersion)\u{0}\(meaning)\u{0}".utf8)
        digest.update(CatalogReader.version(server: serverVersion / 10000).utf8)
        for selection in selections {
            digest.update(selection.digest)
            digest.update(selection.rolesAskedFor(roles).joined(separator: "\u{0}").utf8)
        }
        return Bytes(digest.finish()).hex
    }

    private var cachePath: String? { cacheFolder.map { "\($0)/\(key.prefix(32)).snapshot" } }

    /// The cached result of an earlier replay. The header is parsed first, so that the database can be read while the
    /// rest is parsed.
    struct Cached: Sendable {
        fileprivate let path: String
        fileprivate let text: String
        let schemas: Set<ExactText>

        /// The cached catalog; nil if the file is truncated or was modified. In that case the schema is replayed again.
        var catalog: SchemaCatalog? {
            guard let end = text.range(of: ExpectedSchemaFinder.end, options: .backwards),
                text[end.upperBound...] == ExpectedSchemaFinder.checksum(text[..<end.lowerBound]) + "\n"
            else { return nil }
            return try? SchemaSnapshot.parse(String(text[..<end.lowerBound]), file: path).catalog
        }
    }

    private static let end = "\n@end "

    var cached: Cached? {
        guard let folder = cacheFolder, let path = cachePath, StateFolder.isOwn(folder), StateFolder.isOwn(path),
            let data = FileManager.default.contents(atPath: path)
        else { return nil }
        let text = String(decoding: data, as: UTF8.self)
        return SchemaSnapshot.schemas(in: text).map { Cached(path: path, text: text, schemas: $0) }
    }

    /// Writes the cache. A failure is logged and otherwise ignored.
    private func writeCache(_ catalog: SchemaCatalog) {
        // Secrets are not cached, so such a schema is replayed each time.
        guard let folder = cacheFolder, let path = cachePath, !catalog.hasSecrets else { return }
        let body = SchemaSnapshot.text(of: catalog)
        let text = body + Self.end + Self.checksum(body[...]) + "\n"
        do {
            try StateFolder.make(folder, isPrivate: true)
            guard StateFolder.isOwn(folder) else { return }
            try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            try removeOld(in: folder)
        } catch {
            logger.info("the replayed schema could not be cached", [LogField("error", error)])
        }
    }

    private static func checksum(_ text: Substring) -> String { Bytes(Digest.of(text.utf8)).hex }

    /// Removes all cached files except the newest twenty.
    private func removeOld(in folder: String) throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".snapshot") }
        guard files.count > 20 else { return }
        let dated = files.map { name -> (String, Date) in
            let attributes = try? FileManager.default.attributesOfItem(atPath: "\(folder)/\(name)")
            return ("\(folder)/\(name)", attributes?[.modificationDate] as? Date ?? .distantPast)
        }
        for (path, _) in dated.sorted(by: { $0.1 > $1.1 }).dropFirst(20) {
            try FileManager.default.removeItem(atPath: path)
        }
    }

    // MARK: Committed snapshots

    private func committed() throws -> SchemaCatalog {
        var merged = SchemaCatalog(schemas: [], serverVersion: serverVersion / 10000)
        for selection in selections {
            let path = "\(selection.system.folder)/\(Self.snapshotName)"
            guard let data = FileManager.default.contents(atPath: path) else {
                throw ValidationError(
                    "creating a scratch database is not permitted, and \(path) does not exist",
                    hint: "grant the role CREATEDB, or create the file elsewhere with 'reeve schema snapshot --write'")
            }
            let (catalog, notes) = try SchemaSnapshot.parse(String(decoding: data, as: UTF8.self), file: path)
            guard notes["migrations"] == selection.hex else {
                throw ValidationError(
                    "\(path) was not made from the migrations that are applied in schema "
                        + "\(selection.system.schema)",
                    hint: "recreate it with 'reeve schema snapshot --write --system \(selection.system.name)'")
            }
            // The catalog gets the version of the server on which the snapshot was created, so that a comparison
            // ignores differences between major versions.
            if catalog.serverVersion != serverVersion / 10000 { merged.serverVersion = catalog.serverVersion }
            merged.add(catalog)
        }
        return merged
    }
}

/// An error that prevents the comparison of a schema.
public struct ValidationError: Error, CustomStringConvertible, Sendable {
    public let description: String
    public let hint: String?

    init(_ description: String, hint: String? = nil) {
        self.description = description
        self.hint = hint
    }
}

extension ValidationError: ReportedError {
    public static let codes = [ErrorCode("validation", [.failed], "A schema cannot be compared with its migrations.")]

    public var report: ErrorReport { ErrorReport(description, code: "validation", hint: hint) }
}
