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
            try await remove(Proof.objects.map { "\(manifest.prefix)/\($0)" }, under: lock)
        }
        var freed = 0
        for part in leaving.flatMap(\.parts) where !needed.contains(part.object) {
            try await remove([part.object], under: lock)
            freed += part.object.hasPrefix("\(database)/") ? part.bytes : 0
        }
        return freed
    }

    /// Removes objects that no manifest refers to. They are left over from interrupted backups, removals or changes of
    /// keys. If a manifest cannot be read, nothing is removed: that manifest may refer to any of the objects, and may
    /// still be repaired by hand.
    ///
    /// - Returns: the number of bytes that were freed.
    /// - Throws: `StorageError`; `BackupError.lockLost`.
    public func removeOrphans(of database: String, under lock: BackupLock) async throws -> Int {
        var isDamaged = false
        let manifests = try await manifests(of: database) { _ in isDamaged = true }
        if isDamaged { return 0 }
        let objects = try await store.list("\(database)/")
        let orphans = Set(Self.orphans(objects, manifests))
        try await remove(orphans.sorted(), under: lock)
        return objects.filter { orphans.contains($0.name) }.reduce(0) { $0 + $1.bytes }
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
        try await stored(of: database) { damaged($1) }.map(\.manifest)
    }

    /// Returns the manifests of a database with their stored forms, oldest first.
    ///
    /// - Parameter damaged: called with the ID of each manifest that cannot be read.
    /// - Throws: `StorageError` if the store does not answer.
    func stored(
        of database: String, damaged: (_ id: String, BackupError) -> Void = { _, _ in }
    ) async throws -> [StoredManifest] {
        let ids = try await ids(of: database)
        var manifests: [StoredManifest] = []
        for (id, name) in ids.map({ ($0, "\(database)/\($0)/\(Manifest.name)") }) {
            do {
                manifests.append(try Manifest.decode(try await store.bytes(of: name), object: name))
            } catch let error as BackupError {
                damaged(id, error)
            } catch StorageError.tooLarge(let object) {
                damaged(id, .badManifest(object: object, reason: "it is too large"))
            } catch let error as StorageError {
                guard error.isOfOneObject else { throw error }
                // If the whole store does not answer, this listing throws.
                _ = try await store.list(name)
                damaged(id, .manifestNotRead(object: name, cause: error))
            }
        }
        return manifests.sorted { ($0.manifest.began, $0.manifest.id) < ($1.manifest.began, $1.manifest.id) }
    }

    /// Returns the newest backup that a test has shown to be restorable, and the result of that test.
    ///
    /// - Throws: `StorageError`.
    public func lastProven(
        of database: String, against evidence: RepositoryReview.Evidence
    ) async throws -> (manifest: Manifest, proof: Proof)? {
        for stored in try await stored(of: database).reversed() {
            if let proof = try await Proof.readVouched(stored, in: self, against: evidence), proof.isProved {
                return (stored.manifest, proof)
            }
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
        return try await stored(id, of: database).manifest
    }

    /// Returns the manifest of one backup with its stored form.
    ///
    /// - Throws: `BackupError.unknown`, `.badManifest`; `StorageError`.
    public func stored(_ id: String, of database: String) async throws -> StoredManifest {
        let name = "\(database)/\(id)/\(Manifest.name)"
        guard ObjectName.isValid(name) else { throw BackupError.unknown(id: id) }
        do {
            return try Manifest.decode(try await store.bytes(of: name), object: name)
        } catch StorageError.missing {
            throw BackupError.unknown(id: id)
        }
    }

    /// Returns the names under which the repository contains backups, with the number of the backups.
    ///
    /// - Throws: `StorageError`.
    public func names() async throws -> [(name: String, backups: Int)] {
        let parts = try await store.list("").map { $0.name.split(separator: "/") }
        let names = parts.filter { $0.count == 3 && $0[2] == Manifest.name }.map { String($0[0]) }
        return Dictionary(grouping: names) { $0 }.map { (name: $0.key, backups: $0.value.count) }.sorted {
            $0.name < $1.name
        }
    }
}
