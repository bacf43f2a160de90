import Foundation
import Hashing
import Ledger
import Postgres
import Reporting
import Storage

/// The database that owns the backups stored in a repository under a name.
///
/// Two databases may be given the same name. Each would mistake the objects of the other database's running backup for
/// those of a failed one, and `latest` could be a backup of the other database. So the object `DATABASE/owner.json`
/// records the owner of the name.
public struct RepositoryOwner: Codable, Sendable, Equatable, CustomStringConvertible {
    /// A digest of the ledger's random identifier. The identifier itself is secret.
    let estate: String
    /// The database's name on its server.
    let source: String
    let since: String
    /// The server and the database; nil in a record of an earlier version.
    var origin: Manifest.Origin?

    static let name = "owner.json"

    public var description: String { "database \(visible(source)), ledger \(visible(String(estate.prefix(12))))" }

    /// Returns the current database, described as an owner; nil if the database has no ledger.
    ///
    /// - Throws: the errors of `LedgerSchema.estate`.
    static func read(on connection: isolated Connection) throws -> RepositoryOwner? {
        guard let number = try LedgerSchema.estate(on: connection) else { return nil }
        return RepositoryOwner(
            estate: Digest.hex(Digest.of("reeve backups of \(number)".utf8)),
            source: try connection.query("SELECT current_database()::text").first?.get(0) ?? "",
            since: Timestamp.now.rfc3339, origin: try Manifest.Origin.read(on: connection))
    }

    /// Whether both are the same database, and not two copies of one.
    func isSame(as other: RepositoryOwner) -> Bool {
        guard estate == other.estate else { return false }
        guard let origin, let theirs = other.origin else { return true }
        return origin.isSame(as: theirs)
    }
}

extension Repository {
    /// Refuses a name under which the repository contains backups of another database, or of the database that this one
    /// is a copy of. If the name has no owner yet, records this database as its owner. To be called under the lock
    /// (`Repository.locked`).
    ///
    /// - Parameter adopts: whether to take over a name that belongs to another database, to accept a repository without
    ///   backups although the ledger records some in it, and to accept another repository at a known place.
    /// - Returns: the mark of the repository.
    /// - Throws: `StorageError.unmarked` for a place that is not a repository; `BackupError.foreign`; `.exchanged` if
    ///   the ledger knows another repository at the place; `.emptied` if the ledger records backups in the repository
    ///   but the repository has none; `StorageError`; `PostgresError`.
    public func claim(
        _ database: String, on connection: Connection, adopts: Bool = false
    ) async throws -> RepositoryMark {
        let mark = try await store.requireMark()
        let (own, records) = try await connection.with { [place = store.place] connection in
            let own = try RepositoryOwner.read(on: connection)
            return (own, own == nil ? [] : try BackupLedger.records(on: connection).filter { $0.place == place })
        }
        let marks = Set(records.compactMap(\.repository))
        if !marks.isEmpty, !marks.contains(mark.id), !adopts {
            throw BackupError.exchanged(place: store.place, expected: marks.sorted()[0], found: mark.id)
        }
        // The owner's object may be left where the backups are gone.
        let expected = records.filter { $0.excusedAt == nil }
        if !adopts, !expected.isEmpty, try await ids(of: database).isEmpty {
            throw BackupError.emptied(place: store.place, name: database, backups: expected.count)
        }
        let known = try await owner(of: database)
        if let known, let own, known.isSame(as: own), known.origin != nil { return mark }
        if let known, own.map(known.isSame) != true, !adopts || own == nil {
            throw BackupError.foreign(
                place: store.place, name: database, owner: known, isCopy: known.estate == own?.estate)
        }
        guard let own else { return mark }
        try await store.write(Array(try JSONEncoder().encode(own)), to: "\(database)/\(RepositoryOwner.name)")
        return mark
    }

    /// Returns the owner that the object `owner.json` records. If that object is missing, returns the source database
    /// of the newest backup whose manifest has an `estate`; nil if there is no such backup.
    private func owner(of database: String) async throws -> RepositoryOwner? {
        if let recorded = try await recordedOwner(of: database) { return recorded }
        guard let last = try await manifests(of: database).last(where: { $0.estate != nil }), let estate = last.estate
        else { return nil }
        return RepositoryOwner(estate: estate, source: last.source, since: last.startedAt, origin: last.origin)
    }

    /// Returns the owner that the object `owner.json` records; nil if it is missing.
    ///
    /// - Throws: `StorageError`.
    func recordedOwner(of database: String) async throws -> RepositoryOwner? {
        do {
            let bytes = try await store.bytes(of: "\(database)/\(RepositoryOwner.name)")
            return (try? JSONDecoder().decode(RepositoryOwner.self, from: Data(bytes)))
                ?? RepositoryOwner(estate: "unknown", source: "unknown", since: "")
        } catch StorageError.missing {
            return nil
        }
    }
}
