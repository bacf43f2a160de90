import Foundation
import Processes

/// Tries the programs that a part of a backup passes through.
public enum PartTrial {
    /// Compresses and encrypts some bytes, checks the format of the result, and unpacks what was compressed.
    ///
    /// - Parameter recipients: the recipients to encrypt for; empty: only compression is tried.
    /// - Throws: `PipelineError`; `BackupError.badOutput`.
    public static func run(recipients: [String]) async throws {
        let bytes = Array(repeating: Array("a part of a backup\n".utf8), count: 100).flatMap { $0 }
        _ = try await pass(bytes, through: BackupTools.packing(recipients))
        let packed = try await pass(bytes, through: BackupTools.packing([]))
        let unpacked = Gathered<UInt8>()
        let feed = SharedQueue([packed])
        let pipeline = Pipeline(BackupTools.unpacking(nil, isEncrypted: false))
        try await pipeline.run(source: { feed.next() }, take: { unpacked.add($0) })
        guard unpacked.all == bytes else {
            throw BackupError.badOutput(program: "zstd", reason: "what it unpacks differs from what it has packed")
        }
    }

    private static func pass(_ bytes: [UInt8], through stages: [CheckedChain.Stage]) async throws -> [UInt8] {
        let feed = SharedQueue([bytes])
        let result = Gathered<UInt8>()
        try await CheckedChain(stages: stages).run(CheckedChain.Source(next: { feed.next() })) { result.add($0) }
        return result.all
    }
}
