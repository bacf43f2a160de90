import Foundation
import Hashing
import Ledger

/// A manifest together with what its stored form says about it.
public struct StoredManifest: Sendable, Equatable {
    public let manifest: Manifest
    /// SHA-256 of the line of JSON. The ledger records it.
    public let sha256: String
    public let signature: Signature?
    /// The line of JSON.
    private let body: [UInt8]

    /// The manifest as a link for the next backup.
    var link: Manifest.Link {
        get throws { Manifest.Link(id: manifest.id, content: try ManifestContent.digest(of: body)) }
    }

    fileprivate init(_ manifest: Manifest, _ body: [UInt8], sha256: String, _ signature: Signature?) {
        self.manifest = manifest
        self.body = body
        self.sha256 = sha256
        self.signature = signature
    }

    /// The code of a manifest, and the key that it was computed with.
    public struct Signature: Sendable, Equatable {
        /// `SigningKey.id`.
        public let keyID: String
        let code: [UInt8]

        init(of sha256: String, with key: SigningKey) {
            keyID = key.id
            code = key.code(of: Self.text(sha256))
        }

        fileprivate init?(_ line: Substring) {
            let words = line.split(separator: " ", omittingEmptySubsequences: false)
            guard words.count == 3, words[0] == Self.method, let code = Digest.bytes(words[2]) else { return nil }
            (keyID, self.code) = (String(words[1]), code)
        }

        /// Whether the signature was made with this key.
        func isOf(_ sha256: String, with key: SigningKey) -> Bool {
            keyID == key.id && key.isCode(code, of: Self.text(sha256))
        }

        fileprivate var line: String { "\(Self.method) \(keyID) \(Digest.hex(code))" }

        private static let method = "hmac-sha256"

        private static func text(_ sha256: String) -> [UInt8] { Array("reeve-backup-manifest/1 \(sha256)".utf8) }
    }

    /// Whether a manifest was signed with one of the keys.
    func isSigned(with keys: [SigningKey]) -> Bool {
        keys.contains { signature?.isOf(sha256, with: $0) == true }
    }
}

extension Manifest {
    /// The stored form of the manifest: one line of JSON, its SHA-256 on the next line, and the signature on a third if
    /// there is a key.
    func encoded(signedBy key: SigningKey? = nil) throws -> [UInt8] {
        let body = try body()
        let sha256 = Digest.hex(Digest.of(body))
        let signature = key.map { StoredManifest.Signature(of: sha256, with: $0).line + "\n" } ?? ""
        return body + Array("\n\(sha256)\n\(signature)".utf8)
    }

    /// Whether both are the same backup, perhaps encrypted for other recipients.
    func isSameBackup(as other: Manifest) throws -> Bool {
        try ManifestContent.digest(of: body()) == ManifestContent.digest(of: other.body())
    }

    private func body() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self))
    }

    /// Returns the stored form, after checking that `decode` reads the same manifest from it.
    ///
    /// - Throws: `BackupError.unreadable`.
    func readable(as object: String, signedBy key: SigningKey? = nil) throws -> [UInt8] {
        let bytes = try encoded(signedBy: key)
        do {
            guard try Self.decode(bytes, object: object).manifest == self else {
                throw BackupError.unreadable(reason: "its manifest, when parsed, differs from what was encoded")
            }
        } catch BackupError.badManifest(_, let reason) {
            throw BackupError.unreadable(reason: reason)
        }
        return bytes
    }

    /// Parses the stored form of a manifest.
    ///
    /// - Throws: `BackupError.badManifest` for a manifest that was changed or truncated, that has another format, or
    ///   that has a `problem`.
    static func decode(_ bytes: [UInt8], object: String) throws -> StoredManifest {
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true)
        guard (2...3).contains(lines.count), case let sha256 = Digest.hex(Digest.of(lines[0])),
            lines[1].elementsEqual(sha256.utf8)
        else { throw BackupError.badManifest(object: object, reason: "its checksum does not match") }
        let signature = lines.count < 3 ? nil : StoredManifest.Signature(Substring(decoding: lines[2], as: UTF8.self))
        guard lines.count < 3 || signature != nil else {
            throw BackupError.badManifest(object: object, reason: "its signature cannot be parsed")
        }
        do {
            let manifest = try JSONDecoder().decode(Manifest.self, from: Data(lines[0]))
            guard manifest.format == format else {
                throw BackupError.badManifest(object: object, reason: "its format \(manifest.format) is not supported")
            }
            if let problem = manifest.problem(as: object) {
                throw BackupError.badManifest(object: object, reason: problem)
            }
            return StoredManifest(manifest, Array(lines[0]), sha256: sha256, signature)
        } catch let error as DecodingError {
            throw BackupError.badManifest(object: object, reason: "\(error)")
        }
    }
}
