import Foundation
import Hashing
import Processes
import Storage

/// Reads a part and tells at its end whether it is what was written.
final class CheckedReader: @unchecked Sendable {
    // Used by one thread at a time: that which feeds a pipeline, and the one that reads the rest after it.
    private let reader: StreamReader
    private let part: Manifest.Part
    /// Called with the number of bytes of each piece.
    private let progress: @Sendable (Int) -> Void
    /// Whether the object is not there.
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

    /// Whether anything of it was passed on.
    var hasBegun: Bool { count > 0 }

    /// Sends the part through programs, and reads what these leave of it, for its hash.
    ///
    /// - Parameter lastMayStopEarly: whether the last program may leave a rest of what the others write.
    /// - Throws: `BackupError.part` for a part that is not what was written, whatever the programs made of it;
    ///   `PipelineError`; what `take` throws.
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
            // A hash that does not fit says more than a program that stumbles over it.
            try await readRest()
            throw error
        }
        try await readRest()
    }

    /// Reads what is left.
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
    /// Reads a part of a backup; where its object is gone, what the manifest names in its place by now. A change of keys
    /// writes parts anew while others read, and a removal takes them away.
    ///
    /// - Throws: `BackupError.part` for one that is missing although its manifest names it; `.notRestored` where the backup
    ///   is gone, or the part was replaced while it was read; what `body` throws.
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
                    throw BackupError.notRestored(object: part.object, reason: "the backup was removed meanwhile")
                }
                if now.object == wanted.object { throw error }
                if reader.hasBegun {
                    throw BackupError.notRestored(
                        object: part.object, reason: "it was encrypted anew while it was read")
                }
                wanted = now
            }
        }
    }

    /// What the manifest of a backup names today in the place of a part.
    ///
    /// - Returns: nil where the backup is gone, or is another one by now.
    func current(_ part: Manifest.Part, of manifest: Manifest) async throws -> Manifest.Part? {
        let now: Manifest
        do {
            now = try await self.manifest(manifest.id, of: manifest.database)
        } catch BackupError.unknown {
            return nil
        }
        guard let index = manifest.parts.firstIndex(of: part), now.content == manifest.content else { return nil }
        return now.parts[index]
    }
}

extension Manifest {
    /// Without what a change of keys changes.
    fileprivate var content: Manifest {
        var content = self
        content.recipients = []
        content.parts = parts.map { $0.stored(as: "", bytes: 0, sha256: "") }
        return content
    }
}
