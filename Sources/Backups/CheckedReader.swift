import Foundation
import Hashing
import Processes
import Storage

/// Reads a part and tells at its end whether it is what was written.
final class CheckedReader: @unchecked Sendable {
    // Used by one thread at a time: that which feeds a pipeline, and the one that reads the rest after it.
    private let reader: StreamReader
    private let part: Manifest.Part
    /// Is told of the bytes of each piece.
    private let progress: @Sendable (Int) -> Void
    private var count = 0
    private var digest: Digest? = Digest()
    private var isDone = false

    init(_ part: Manifest.Part, in store: BoundedStore, progress: @escaping @Sendable (Int) -> Void = { _ in }) throws {
        self.part = part
        self.progress = progress
        reader = try store.reader(of: part.object)
    }

    deinit { reader.close() }

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
            throw BackupError.part(object: part.object, reason: "it is missing")
        }
    }
}
