import Foundation
import Hashing
import Ledger
import Postgres
import Storage

/// The backups of databases in a store.
///
/// Objects are named `DATABASE/ID/PART`. A part is the output of `pg_dump | zstd | age`, so that
/// `age -d | zstd -d | pg_restore` reads it. The manifest, `DATABASE/ID/manifest.json`, is written last.
public struct Repository: Sendable {
    public let store: BoundedStore

    public init(_ store: BoundedStore) { self.store = store }

    public init(_ store: any ObjectStore, limits: BoundedStore.Limits = BoundedStore.Limits()) {
        self.store = BoundedStore(store, limits: limits)
    }

    /// Runs an operation that adds or removes backups of a database, under a lock. The lock is needed because a new
    /// backup refers to parts of earlier ones, which must not be removed in the meantime. If the connection is lost, so
    /// is the lock.
    ///
    /// - Throws: `BackupError.locked`; the errors of `body`.
    public static func locked<T: Sendable>(
        on connection: Connection, wait: Duration, _ body: (BackupLock) async throws -> T
    ) async throws -> T {
        let lock = try await connection.with { try LedgerLock.named("reeve backup", on: $0) }
        guard try await lock.acquire(on: connection, wait: wait, waiting: { _ in }) else {
            throw BackupError.locked(holder: try await lock.holder(on: connection)?.description)
        }
        // Release the lock immediately, and not only when the server notices that the connection is closed.
        do {
            let result = try await body(BackupLock(lock: lock, connection: connection))
            try? await lock.release(on: connection)
            return result
        } catch {
            try? await lock.release(on: connection)
            throw error
        }
    }

    /// Removes backups: first the manifest of each, then the parts that no manifest refers to any more.
    ///
    /// If the removal is interrupted after a manifest was removed, the next backup removes the remaining parts.
    ///
    /// - Parameter removed: called with the ID of each backup as soon as its manifest is removed, before any of its
    ///   parts is removed.
    /// - Returns: the number of bytes that were freed.
    /// - Throws: `StorageError`; `BackupError.lockLost`; `.part` if a manifest cannot be read; the errors of `removed`.
    public func remove(
        _ ids: Set<String>, of database: String, under lock: BackupLock,
        removed: (String) async throws -> Void = { _ in }
    ) async throws -> Int {
        var damaged = 0
        let all = try await manifests(of: database) { _ in damaged += 1 }
        let leaving = all.filter { ids.contains($0.id) }
        // Remove nothing if a manifest cannot be read: the backup with that manifest may refer to parts of the backups
        // that are to be removed.
        if damaged > 0, !leaving.isEmpty {
            throw BackupError.part(
                object: database, reason: "\(damaged) of its manifests cannot be read, so no backup is removed")
        }
        let needed = Set(all.filter { !ids.contains($0.id) }.flatMap { $0.parts.map(\.object) })
        for manifest in leaving {
            try await remove(["\(manifest.prefix)/\(Manifest.name)"], under: lock)
            try await removed(manifest.id)
            try await remove([Proof.name, Proof.reportName].map { "\(manifest.prefix)/\($0)" }, under: lock)
        }
        var freed = 0
        for part in leaving.flatMap(\.parts) where !needed.contains(part.object) {
            try await remove([part.object], under: lock)
            freed += part.object.hasPrefix("\(database)/") ? part.bytes : 0
        }
        return freed
    }

    /// Removes objects. Checks before each of them that the lock is still held.
    ///
    /// - Throws: `BackupError.lockLost`; `StorageError`; `PostgresError`.
    func remove(_ objects: [String], under lock: BackupLock) async throws {
        for object in objects {
            try await lock.check()
            try await store.delete(object)
        }
    }

    /// Returns the IDs of the backups of a database that have a manifest, valid or not.
    ///
    /// - Throws: `StorageError`.
    public func ids(of database: String) async throws -> Set<String> {
        let names = try await store.list("\(database)/").map(\.name).filter { $0.hasSuffix("/\(Manifest.name)") }
        return Set(names.map { String($0.dropFirst(database.count + 1).dropLast(Manifest.name.count + 1)) })
    }

    /// Returns the complete backups of a database, oldest first.
    ///
    /// - Parameter damaged: called for each manifest that cannot be read; the others are still returned.
    /// - Throws: `StorageError` if the store does not answer.
    public func manifests(
        of database: String, damaged: (BackupError) -> Void = { _ in }
    ) async throws -> [Manifest] {
        let names = try await store.list("\(database)/").map(\.name).filter { $0.hasSuffix("/\(Manifest.name)") }
        var manifests: [Manifest] = []
        for name in names {
            do {
                manifests.append(try Manifest.decode(try await store.bytes(of: name), object: name))
            } catch let error as BackupError {
                damaged(error)
            } catch StorageError.tooLarge(let object) {
                damaged(.badManifest(object: object, reason: "it is too large"))
            } catch let error as StorageError {
                guard error.isOfOneObject else { throw error }
                // If the whole store does not answer, this listing throws.
                _ = try await store.list(name)
                damaged(.manifestNotRead(object: name, cause: error))
            }
        }
        return manifests.sorted { ($0.began, $0.id) < ($1.began, $1.id) }
    }

    /// Returns the newest backup that a test has shown to be restorable.
    ///
    /// - Throws: `StorageError`.
    public func lastProven(of database: String) async throws -> Manifest? {
        for manifest in try await manifests(of: database).reversed() {
            if try await Proof.read(manifest, in: self)?.isProved == true { return manifest }
        }
        return nil
    }

    /// Returns one backup, by its ID or `latest`.
    ///
    /// - Throws: `BackupError.unknown`, `.badManifest`; `StorageError`.
    public func manifest(_ id: String, of database: String) async throws -> Manifest {
        if id == "latest" {
            guard let last = try await manifests(of: database).last else { throw BackupError.unknown(id: id) }
            return last
        }
        let name = "\(database)/\(id)/\(Manifest.name)"
        guard ObjectName.isValid(name) else { throw BackupError.unknown(id: id) }
        do {
            return try Manifest.decode(try await store.bytes(of: name), object: name)
        } catch StorageError.missing {
            throw BackupError.unknown(id: id)
        }
    }
}
