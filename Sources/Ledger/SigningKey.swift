import Hashing

/// A key that signs and verifies texts, such as the anchors of audit chains and the manifests of backups: 32 bytes that
/// are not stored where the texts are. Whoever can verify can also sign.
public struct SigningKey: Sendable {
    public static let size = 32

    /// An identifier that is computed from the key and reveals nothing about the bytes of the key.
    public let id: String
    private let bytes: [UInt8]

    /// - Returns: nil if `bytes` does not have 32 bytes.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.size else { return nil }
        self.bytes = bytes
        id = String(Digest.hex(Digest.of(Array("reeve audit key\n".utf8) + bytes)).prefix(16))
    }

    /// Returns the HMAC-SHA256 of a text (RFC 2104). Texts of different kinds begin with different words, so that the
    /// code of one kind is never valid for another.
    public func code(of text: some Sequence<UInt8>) -> [UInt8] { hmacSHA256(key: bytes, text) }

    /// Whether `code` is the code of a text. The duration does not depend on the bytes of `code`.
    public func isCode(_ code: [UInt8], of text: some Sequence<UInt8>) -> Bool {
        let expected = self.code(of: text)
        return zip(expected, code).reduce(expected.count ^ code.count) { $0 | Int($1.0 ^ $1.1) } == 0
    }
}
