import Foundation
import Hashing
import Kernel
import Ledger

/// The file with a signing key: 64 hexadecimal digits. Only its owner may read it.
public struct SigningKeyFile: Sendable {
    let file: PrivateFile

    public init(path: String) { file = PrivateFile(path: path) }

    /// - Returns: nil if the file does not exist.
    /// - Throws: `AuditError`.
    public func read() throws -> SigningKey? {
        guard let bytes = try file.read(limit: 4096) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard let key = Digest.bytes(text).flatMap({ SigningKey($0) }) else { throw AuditError.notAKey(file.path) }
        return key
    }

    /// Returns the key in the file. If the file does not exist, creates it with a random key. Processes that do this
    /// concurrently all get the same key.
    public func readOrMake() throws -> SigningKey {
        if let key = try read() { return key }
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<SigningKey.size).map { _ in UInt8.random(in: 0...255, using: &generator) }
        try file.makeOnce(Array((Digest.hex(bytes) + "\n").utf8))
        guard let key = try read() else { throw AuditError.file(file.path, reason: "it has disappeared") }
        return key
    }
}
