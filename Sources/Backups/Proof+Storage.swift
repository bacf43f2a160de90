import Foundation
import Hashing
import Ledger
import Storage

/// The storage of the result of a restore test, next to its backup: as JSON, as text for people, and with a signature
/// if there is a key.
extension Proof {
    static let name = "proof.json"
    static let reportName = "proof.txt"
    static let signatureName = "proof.sig"

    /// The names of all objects of a proof.
    static let objects = [name, reportName, signatureName]

    func store(for stored: StoredManifest, in repository: Repository, signedBy key: SigningKey?) async throws {
        let manifest = stored.manifest
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        let bytes = Array(try encoder.encode(self))
        func write(_ bytes: [UInt8], _ name: String) async throws {
            try await repository.store.write(bytes, to: "\(manifest.prefix)/\(name)")
        }
        try await write(bytes, Self.name)
        try await write(Array(report(of: manifest).utf8), Self.reportName)
        if let key {
            let code = Digest.hex(key.code(of: try Self.signedText(bytes, stored)))
            try await write(Array("\(key.id) \(code)\n".utf8), Self.signatureName)
        } else {
            try await repository.store.delete("\(manifest.prefix)/\(Self.signatureName)")
        }
    }

    /// What is signed: the proof, and the backup that it is about. A change of keys does not invalidate it.
    private static func signedText(_ proof: [UInt8], _ stored: StoredManifest) throws -> [UInt8] {
        let words = [
            "reeve-backup-proof/1", stored.manifest.prefix, try stored.link.content, Digest.hex(Digest.of(proof)),
        ]
        return Array(words.joined(separator: " ").utf8)
    }

    /// Returns the result of the newest test of a backup; nil if there is none, or if it cannot be decoded. Any account
    /// that may write to the repository can store such a result.
    public static func read(_ manifest: Manifest, in repository: Repository) async throws -> Proof? {
        guard let bytes = try await bytes(name, of: manifest, in: repository) else { return nil }
        return try? JSONDecoder().decode(Proof.self, from: Data(bytes))
    }

    /// Returns the result of the newest test of a backup if it is signed with one of the keys; otherwise nil.
    public static func readSigned(
        _ stored: StoredManifest, in repository: Repository, keys: [SigningKey]
    ) async throws -> Proof? {
        guard let signature = try await bytes(signatureName, of: stored.manifest, in: repository),
            let proof = try await bytes(name, of: stored.manifest, in: repository)
        else { return nil }
        let words = String(decoding: signature, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let code = Digest.bytes(words[1]), let key = keys.first(where: { $0.id == words[0] }),
            key.isCode(code, of: try signedText(proof, stored))
        else { return nil }
        return try? JSONDecoder().decode(Proof.self, from: Data(proof))
    }

    /// Returns the result of the newest test of a backup, if a signature or the ledger vouches for it. If there is
    /// neither a key nor a ledger, returns the result that the repository has.
    public static func readVouched(
        _ stored: StoredManifest, in repository: Repository, against evidence: RepositoryReview.Evidence
    ) async throws -> Proof? {
        if let signed = try await readSigned(stored, in: repository, keys: evidence.keys) { return signed }
        guard let proof = try await read(stored.manifest, in: repository), proof.backup == stored.manifest.id else {
            return nil
        }
        guard let records = evidence.records, evidence.estate != nil else { return evidence.keys.isEmpty ? proof : nil }
        let record = records.first { $0.id == stored.manifest.id && $0.place == repository.store.place }
        guard let record, record.testedAt != nil, (record.provenAt != nil) == proof.isProved else { return nil }
        return proof
    }

    private static func bytes(
        _ name: String, of manifest: Manifest, in repository: Repository
    ) async throws -> [UInt8]? {
        do {
            return try await repository.store.bytes(of: "\(manifest.prefix)/\(name)")
        } catch StorageError.missing {
            return nil
        }
    }
}
