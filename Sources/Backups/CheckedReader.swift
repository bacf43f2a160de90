import Foundation
import Hashing
import Processes
import Storage

/// Reads a part, and checks at the end that it has the size and the SHA-256 that the manifest records.
final class CheckedReader: @unchecked Sendable {
    // Used by one thread at a time: first the thread that feeds a pipeline, then the thread that reads the rest.
    private let reader: StreamReader
    private let part: Manifest.Part
    /// Called with the number of bytes of each piece.
    private let progress: @Sendable (Int) -> Void
    /// Whether the store has reported that the part's object does not exist.
    private(set) var isMissing = false
    private var count = 0
    private var digest: Digest? = Digest()
    private var isDone = false

    init(_ part: Manifest.Part, in store: BoundedStore, progress: @escaping @Sendable (Int) -> Void = { _ in }) throws {
        self.part = part
        self.progress = progress
        reader = try store.reader(of: part.object)
    }

    deinit { reader.close() }

    /// Whether any bytes of the part were passed on.
    var hasBegun: Bool { count > 0 }

    /// Sends the part through programs, and then reads the rest that they have not read, to complete the hash.
    ///
    /// - Parameter lastMayStopEarly: whether the last program may end before it has read all of its input.
    /// - Throws: `BackupError.part` if the part differs from what the manifest records, even if the programs accept it;
    ///   `PipelineError`; the errors of `take`.
    func run(
        _ programs: [Command], lastMayStopEarly: Bool = false,
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        do {
            try await withTaskCancellationHandler {
                try await Pipeline(programs, lastMayStopEarly: lastMayStopEarly).run(
                    source: { try self.next() }, take: take)
            } onCancel: {
                reader.close()
            }
        } catch let error as PipelineError {
            // Check the hash first: a wrong hash explains more than the error of a program that read the wrong bytes.
            try await readRest()
            throw error
        }
        try await readRest()
    }

    /// Reads the rest of the part, and checks its size and hash.
    func readRest() async throws {
        try await withTaskCancellationHandler {
            try await onOwnThread(named: "part") { while try self.next() != nil {} }
        } onCancel: {
            reader.close()
        }
    }

    private func next() throws -> [UInt8]? {
        if isDone { return nil }
        if let piece = try piece() {
            count += piece.count
            digest?.update(piece)
            progress(piece.count)
            return piece
        }
        isDone = true
        guard count == part.bytes else {
            throw BackupError.part(object: part.object, reason: "it has \(count) bytes, not \(part.bytes)")
        }
        guard let digest = digest.take(), Digest.hex(digest.finish()) == part.sha256 else {
            throw BackupError.part(object: part.object, reason: "its content has changed: the SHA-256 does not match")
        }
        return nil
    }

    private func piece() throws -> [UInt8]? {
        do {
            return try reader.next()
        } catch StorageError.missing {
            isMissing = true
            throw BackupError.part(object: part.object, reason: "it is missing")
        }
    }
}

extension Repository {
    /// Reads a part of a backup. Meanwhile, another process may remove the backup, or encrypt the part again. A part
    /// that is encrypted again is stored as a new object. So if the part's object is gone, this method reads the object
    /// that the stored manifest refers to now.
    ///
    /// - Throws: `BackupError.part` if the object is missing although the stored manifest refers to it; `.notRestored`
    ///   if the backup was removed, or if the part was replaced after some of it had been read; the errors of `body`.
    func reading(
        _ part: Manifest.Part, of manifest: Manifest, progress: @escaping @Sendable (Int) -> Void = { _ in },
        _ body: (CheckedReader) async throws -> Void
    ) async throws {
        var wanted = part
        while true {
            let reader = try CheckedReader(wanted, in: store, progress: progress)
            do {
                return try await body(reader)
            } catch let error as BackupError where reader.isMissing {
                guard let now = try await current(part, of: manifest) else {
                    throw BackupError.notRestored(
                        object: part.object, reason: "the backup was removed while it was being read")
                }
                if now.object == wanted.object { throw error }
                if reader.hasBegun {
                    throw BackupError.notRestored(
                        object: part.object, reason: "it was encrypted again while it was being read")
                }
                wanted = now
            }
        }
    }

    /// Returns the part that the stored manifest now has in the place of `part`.
    ///
    /// - Returns: nil if the backup is gone, or if its ID belongs to a different backup by now.
    func current(_ part: Manifest.Part, of manifest: Manifest) async throws -> Manifest.Part? {
        let now: Manifest
        do {
            now = try await self.manifest(manifest.id, of: manifest.database)
        } catch BackupError.unknown {
            return nil
        }
        guard let index = manifest.parts.firstIndex(of: part), try now.isSameBackup(as: manifest) else { return nil }
        return now.parts[index]
    }
}
