import Foundation
import Processes
import Storage

/// Key pairs of age.
public enum BackupKey {
    /// Makes a key pair, and writes the identity to a file that must not exist yet.
    ///
    /// - Parameter path: the absolute path of the file.
    /// - Returns: the recipient.
    /// - Throws: `PipelineError` with the message of age-keygen.
    public static func make(at path: String) async throws -> String {
        _ = try await Pipeline([Command("age-keygen", ["-o", path])]).output()
        return try await recipients(of: path).first ?? ""
    }

    /// Returns the recipients of the identities in a file.
    ///
    /// - Throws: `PipelineError` for a file that contains no identity.
    public static func recipients(of path: String) async throws -> [String] {
        let output = try await Pipeline([Command("age-keygen", ["-y", path])]).output()
        return String(decoding: output, as: UTF8.self).split(whereSeparator: \.isNewline).map(String.init)
    }
}

/// The age identities that decrypt a backup. They are found by decrypting the smallest part of the backup.
public struct KeyTrial: Sendable {
    public let backup: String
    /// The identity files that open the backup; nil if the backup is not encrypted.
    public let opening: [String]?
}

extension Repository {
    /// Tries to decrypt the smallest part of each backup with each of the identities.
    ///
    /// - Throws: `StorageError`, `BackupError.noProgram`; `.notRestored` if an attempt could not be made.
    public func trials(_ manifests: [Manifest], identities: [String]) async throws -> [KeyTrial] {
        try await BackupTools.check(encrypts: true)
        var trials: [KeyTrial] = []
        for manifest in manifests {
            guard !manifest.recipients.isEmpty, let part = manifest.parts.min(by: { $0.bytes < $1.bytes }) else {
                trials.append(KeyTrial(backup: manifest.id, opening: nil))
                continue
            }
            var opening: [String] = []
            for identity in identities where try await opens(part, identity) { opening.append(identity) }
            trials.append(KeyTrial(backup: manifest.id, opening: opening))
        }
        return trials
    }

    /// Whether an identity decrypts a part. False for every identity if the part is damaged.
    private func opens(_ part: Manifest.Part, _ identity: String) async throws -> Bool {
        do {
            try await CheckedReader(part, in: store).run(BackupTools.unpacking(identity, isEncrypted: true)) { _ in }
            return true
        } catch let error as PipelineError {
            if error.saysNothingOfItsInput { throw BackupError(for: error, part) }
            return false
        } catch is BackupError {
            return false
        }
    }

    /// Encrypts the parts of all encrypted backups of a database again, for other recipients. The contents of the parts
    /// do not change.
    ///
    /// New objects are written next to the old ones. Then the manifests are replaced, each in one step, and then the
    /// old objects are removed. So if the process is killed, every backup is complete, and another run continues the
    /// work. If a manifest cannot be read, nothing is removed: that manifest may refer to any of the old objects, and
    /// may still be repaired by hand.
    ///
    /// - Parameters:
    ///   - identity: the identity that opens the existing parts.
    ///   - rewriting: writes a manifest again, and tells the ledger of it.
    ///   - trusted: whether a manifest may be written again, and signed. The others are left unchanged.
    ///   - damaged: called for each manifest that cannot be read. Its parts are not encrypted again.
    ///   - progress: called with the object of each part that was encrypted again.
    /// - Returns: the number of parts that were encrypted again.
    /// - Throws: `BackupError.cannotOpen`, `.part`; `StorageError`.
    public func rewrap(
        database: String, identity: String, recipients: [String], under lock: BackupLock,
        rewriting: ManifestRewriting, trusted: (StoredManifest) -> Bool = { _ in true },
        damaged: (BackupError) -> Void = { _ in },
        progress: @escaping @Sendable (String) -> Void = { _ in }
    ) async throws -> Int {
        let stored = try await stored(of: database).filter {
            !$0.manifest.recipients.isEmpty && $0.manifest.recipients != recipients && trusted($0)
        }
        let manifests = stored.map(\.manifest)
        if rewriting.key == nil, let signed = stored.first(where: { $0.signature != nil }) {
            throw BackupError.needsSigningKey(id: signed.manifest.id)
        }
        var anew: [String: Manifest.Part] = [:]
        for part in manifests.flatMap(\.parts) where anew[part.object] == nil {
            anew[part.object] = try await rewrap(part, identity, recipients)
            progress(part.object)
        }
        for manifest in manifests {
            try await lock.check()
            var changed = manifest
            changed.recipients = recipients
            changed.parts = manifest.parts.map { part in
                guard let new = anew[part.object] else { return part }
                return part.stored(as: new.object, bytes: new.bytes, sha256: new.sha256)
            }
            try await rewriting.write(changed, to: self)
        }
        var isWhole = true
        let needed = Set(
            try await self.manifests(of: database) {
                isWhole = false
                damaged($0)
            }.flatMap { $0.parts.map(\.object) })
        if isWhole { try await remove(anew.keys.filter { !needed.contains($0) }, under: lock) }
        return anew.count
    }

    private func rewrap(_ part: Manifest.Part, _ identity: String, _ recipients: [String]) async throws -> Manifest.Part
    {
        let reader = try CheckedReader(part, in: store)
        let stem = part.object.replacing(/(\.[0-9a-f]{8})?\.zst\.age$/, with: "")
        let object = "\(stem).\(String(UInt32.random(in: 0x1000_0000...UInt32.max), radix: 16)).zst.age"
        let destinations = Destinations([self], bytesPerSecond: nil)
        let sink = try destinations.open(object)
        let check = FormatCheck(.age)
        let programs = [
            Command("age", ["-d", "-i", identity]),
            Command("age", recipients.flatMap { ["-r", $0] }),
        ]
        do {
            try await sink.letGoOnCancel {
                try await reader.run(programs) {
                    check.take($0)
                    try sink.take($0)
                }
            }
            if let problem = check.problem() { throw BackupError.badOutput(program: "age", reason: problem) }
            let (bytes, sha256) = try await sink.commit()
            return part.stored(as: object, bytes: bytes, sha256: sha256)
        } catch let error as PipelineError {
            await sink.discard()
            throw BackupError(for: error, part)
        } catch {
            await sink.discard()
            throw error
        }
    }
}
