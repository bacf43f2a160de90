import Foundation
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
        guard let key = Self.bytes(text).flatMap({ SigningKey($0) }) else { throw AuditError.notAKey(file.path) }
        return key
    }

    /// Returns the key in the file. If the file does not exist, creates it with a random key. Processes that do this
    /// concurrently all get the same key.
    public func readOrMake() throws -> SigningKey {
        if let key = try read() { return key }
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<SigningKey.size).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let digits = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        try file.makeOnce(Array((digits + "\n").utf8))
        guard let key = try read() else { throw AuditError.file(file.path, reason: "it has disappeared") }
        return key
    }

    private static func bytes(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count == 2 * SigningKey.size else { return nil }
        let pairs = stride(from: 0, to: digits.count, by: 2).map {
            String(decoding: digits[$0...($0 + 1)], as: UTF8.self)
        }
        let bytes = pairs.compactMap { pair in
            pair.utf8.allSatisfy { Character(Unicode.Scalar($0)).isHexDigit } ? UInt8(pair, radix: 16) : nil
        }
        return bytes.count == SigningKey.size ? bytes : nil
    }
}
