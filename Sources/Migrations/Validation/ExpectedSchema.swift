import Catalog
import Foundation
import Hashing
import Ledger
import Postgres
import Reporting
import Telemetry

/// What migrations make, as values, and where that knowledge is from.
public struct ExpectedSchema: Sendable {
    public enum Source: Sendable, Equatable {
        /// Replayed just now.
        case replay
        /// Replayed earlier, and kept.
        case cache
        /// The snapshots beside the migrations.
        case snapshots
    }

    public var catalog: SchemaCatalog
    public let source: Source
}

/// Where a scratch database may be made.
public enum ScratchPolicy: String, Sendable, CaseIterable {
    /// Where the role may; else the committed snapshots serve.
    case auto
    case always, never
}

/// Finds out what migrations make: from the cache, by a replay, or from the committed snapshots.
struct ExpectedSchemaFinder: Sendable {
    /// Changes with how the catalog spells what it reads, so that an older program's cache is not taken for ours.
    private static let format = "2"
    /// The name of a committed snapshot in a system's folder.
    static let snapshotName = "schema.snapshot"

    let selections: [MigrationSelection]
    /// The server on which a scratch database may be made.
    let server: ConnectionSettings
    /// The server's version number.
    let serverVersion: Int
    let policy: ScratchPolicy
    /// Where replays are kept; nil: nowhere.
    let cacheFolder: String?
    let logger: Logger

    /// - Throws: `PostgresError`, `MigrationError`; `ValidationError` where neither way is open.
    func find() async throws -> ExpectedSchema {
        if let cached = cached?.catalog { return ExpectedSchema(catalog: cached, source: .cache) }
        if policy == .never { return ExpectedSchema(catalog: try committed(), source: .snapshots) }
        do {
            let catalog = try await SchemaReplay(selections: selections, logger: logger).run(beside: server)
            writeCache(catalog)
            return ExpectedSchema(catalog: catalog, source: .replay)
        } catch let error as PostgresError where error.sqlState == "42501" && policy == .auto {
            logger.info("no scratch database may be made", [LogField("error", error.message)])
            return ExpectedSchema(catalog: try committed(), source: .snapshots)
        }
    }

    // MARK: Cache

    private var key: String {
        var digest = Digest()
        digest.update("\(Self.format)\u{0}\(serverVersion)\u{0}".utf8)
        digest.update(CatalogReader.version(server: serverVersion / 10000).utf8)
        for selection in selections { digest.update(selection.digest) }
        return Bytes(digest.finish()).hex
    }

    private var cachePath: String? { cacheFolder.map { "\($0)/\(key.prefix(32)).snapshot" } }

    /// What was kept of an earlier replay. Its head is read at once, so that the database can be looked at while the
    /// rest is.
    struct Cached: Sendable {
        fileprivate let path: String
        fileprivate let text: String
        let schemas: Set<ExactText>

        /// nil for a file that was cut short, or meddled with: it is made anew.
        var catalog: SchemaCatalog? {
            guard let end = text.range(of: ExpectedSchemaFinder.end, options: .backwards),
                text[end.upperBound...] == ExpectedSchemaFinder.checksum(text[..<end.lowerBound]) + "\n"
            else { return nil }
            return try? SchemaSnapshot.parse(String(text[..<end.lowerBound]), file: path).catalog
        }
    }

    private static let end = "\n@end "

    var cached: Cached? {
        guard let path = cachePath, let data = FileManager.default.contents(atPath: path) else { return nil }
        let text = String(decoding: data, as: UTF8.self)
        return SchemaSnapshot.schemas(in: text).map { Cached(path: path, text: text, schemas: $0) }
    }

    /// A cache that cannot be written is done without.
    private func writeCache(_ catalog: SchemaCatalog) {
        guard let folder = cacheFolder, let path = cachePath else { return }
        let body = SchemaSnapshot.text(of: catalog)
        let text = body + Self.end + Self.checksum(body[...]) + "\n"
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
            try removeOld(in: folder)
        } catch {
            logger.info("the replayed schema could not be kept", [LogField("error", error)])
        }
    }

    private static func checksum(_ text: Substring) -> String { Bytes(Digest.of(text.utf8)).hex }

    /// The newest twenty stay.
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
                    "the role may not create a scratch database, and \(path) does not exist",
                    hint: "grant the role CREATEDB, or create the file elsewhere with 'reeve schema snapshot --write'")
            }
            let (catalog, notes) = try SchemaSnapshot.parse(String(decoding: data, as: UTF8.self), file: path)
            guard notes["migrations"] == selection.hex else {
                throw ValidationError(
                    "\(path) was made from other migrations than those applied in schema \(selection.system.schema)",
                    hint: "recreate it with 'reeve schema snapshot --write --system \(selection.system.name)'")
            }
            // What differs between major versions is judged by those that made the files.
            if catalog.serverVersion != serverVersion / 10000 { merged.serverVersion = catalog.serverVersion }
            merged.add(catalog)
        }
        return merged
    }
}

/// Why a schema could not be compared.
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
