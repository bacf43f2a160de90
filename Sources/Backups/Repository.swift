import Foundation
import Hashing
import Ledger
import Postgres
import Storage

/// Backups of databases in a store: what is there, and the way in and out of each part.
///
/// Objects are `DATABASE/ID/PART`; a part is `pg_dump | zstd | age`, so that `age -d | zstd -d | pg_restore` reads it.
/// The manifest, `DATABASE/ID/manifest.json`, is written last.
public struct Repository: Sendable {
    public let store: any ObjectStore

    public init(_ store: any ObjectStore) { self.store = store }

    /// Does something that adds backups of a database or removes some, alone: a new backup refers to parts of earlier ones.
    /// The lock goes with the connection, should it be lost.
    ///
    /// - Throws: `BackupError.locked`; what `body` throws.
    public static func locked<T: Sendable>(
        on connection: Connection, wait: Duration, _ body: () async throws -> T
    ) async throws -> T {
        let lock = try await connection.with { try LedgerLock.named("reeve backup", on: $0) }
        guard try await lock.acquire(on: connection, wait: wait, waiting: { _ in }) else {
            throw BackupError.locked(holder: try await lock.holder(on: connection)?.description)
        }
        // At once, and not when the server has noticed that the connection is closed.
        do {
            let result = try await body()
            try? await lock.release(on: connection)
            return result
        } catch {
            try? await lock.release(on: connection)
            throw error
        }
    }

    /// The whole backups of a database, oldest first.
    ///
    /// - Parameter damaged: gets the manifests that cannot be read.
    /// - Throws: `StorageError`.
    public func manifests(of database: String, damaged: (BackupError) -> Void = { _ in }) throws -> [Manifest] {
        let names = try store.list("\(database)/").map(\.name).filter { $0.hasSuffix("/\(Manifest.name)") }
        return try names.compactMap { name in
            do {
                return try Manifest.decode(bytes(of: name), object: name)
            } catch let error as BackupError {
                damaged(error)
                return nil
            }
        }.sorted { ($0.began, $0.id) < ($1.began, $1.id) }
    }

    /// One backup, by its name or `latest`.
    ///
    /// - Throws: `BackupError.unknown`, `.badManifest`; `StorageError`.
    public func manifest(_ id: String, of database: String) throws -> Manifest {
        if id == "latest" {
            guard let last = try manifests(of: database).last else { throw BackupError.unknown(id: id) }
            return last
        }
        let name = "\(database)/\(id)/\(Manifest.name)"
        do {
            return try Manifest.decode(bytes(of: name), object: name)
        } catch StorageError.missing {
            throw BackupError.unknown(id: id)
        }
    }

    func bytes(of name: String) throws -> [UInt8] {
        let reader = try store.read(name)
        var all: [UInt8] = []
        while let piece = try reader.next() { all += piece }
        return all
    }

    func write(_ bytes: [UInt8], to name: String) throws {
        let writer = try store.write(name)
        try bytes.withUnsafeBytes { try writer.write($0) }
        try writer.commit()
    }
}

/// Reads a part and tells at its end whether it is what was written.
final class CheckedReader: @unchecked Sendable {
    // Used by one thread at a time: that which feeds a pipeline.
    private let reader: any ObjectReader
    private let part: Manifest.Part
    private var count = 0
    private let digest: DigestBox
    private var isDone = false

    /// A digest that a class can hold.
    private final class DigestBox {
        private var digest: Digest? = Digest()

        func update(_ bytes: [UInt8]) { digest?.update(bytes) }

        func finish() -> String {
            guard let digest = digest.take() else { return "" }
            return Digest.hex(digest.finish())
        }
    }

    init(_ part: Manifest.Part, in store: any ObjectStore) throws {
        self.part = part
        digest = DigestBox()
        do {
            reader = try store.read(part.object)
        } catch StorageError.missing {
            throw BackupError.part(object: part.object, reason: "it is missing")
        }
    }

    /// - Throws: `BackupError.part` at the end of an object that is not what it was.
    func next() throws -> [UInt8]? {
        if let piece = try reader.next() {
            count += piece.count
            digest.update(piece)
            return piece
        }
        guard !isDone else { return nil }
        isDone = true
        guard count == part.bytes else {
            throw BackupError.part(object: part.object, reason: "it has \(count) bytes, not \(part.bytes)")
        }
        guard digest.finish() == part.sha256 else {
            throw BackupError.part(object: part.object, reason: "its content has changed: the SHA-256 does not fit")
        }
        return nil
    }
}
