import Catalog
import Foundation
import Hashing
import Postgres

/// What a backup holds and what it must be equal to. A backup without its manifest does not exist.
public struct Manifest: Codable, Sendable, Equatable {
    public static let format = 2

    public struct Table: Codable, Sendable, Equatable {
        public let schema: String
        public let name: String
        public let rows: Int
        /// The content's fingerprint at the backup's snapshot.
        public let digest: String
        /// Changes with the names and types of the columns.
        public let definition: String
        /// Whether the fingerprint is that of the rows as COPY writes them, for it may be read by nothing else; nil: no.
        public var isOfCopy: Bool?

        var path: String { ObjectIdentity(.table, schema: schema, name).description }
    }

    /// A sequence's value, read once the snapshot was taken: no number that a row has is given out again.
    public struct Sequence: Codable, Sendable, Equatable {
        public let schema: String
        public let name: String
        public let value: Int64
        public let isCalled: Bool
    }

    public struct LargeObjects: Codable, Sendable, Equatable {
        public let count: Int
        public let digest: String
    }

    public struct Part: Codable, Sendable, Equatable {
        public enum Kind: String, Codable, Sendable {
            case roles, before, data, sequences, largeObjects, after, catalog
        }

        public let kind: Kind
        /// Its name in the repository; that of an earlier backup where nothing has changed since.
        public let object: String
        /// The tables that it holds the rows of.
        public let tables: [String]
        public let bytes: Int
        /// SHA-256 of the object as it is stored.
        public let sha256: String
        /// The pages of its one table that it holds the rows of; nil: all.
        public var slice: Slice?

        init(kind: Kind, tables: [String] = [], slice: Slice? = nil) {
            self.init(kind, object: "", tables, bytes: 0, sha256: "", slice)
        }

        private init(_ kind: Kind, object: String, _ tables: [String], bytes: Int, sha256: String, _ slice: Slice?) {
            self.kind = kind
            self.object = object
            self.tables = tables
            self.bytes = bytes
            self.sha256 = sha256
            self.slice = slice
        }

        func stored(as object: String, bytes: Int, sha256: String) -> Part {
            Part(kind, object: object, tables, bytes: bytes, sha256: sha256, slice)
        }

        /// A part of a large table, stored as `COPY` for psql.
        public struct Slice: Codable, Sendable, Equatable {
            public let firstPage: Int
            /// The one after the last; nil: to the end.
            public let endPage: Int?
            public let rows: Int
            public let digest: String
        }
    }

    public let format: Int
    public let id: String
    public let database: String
    /// The database's name on its server.
    public let source: String
    public let reeve: String
    /// The server's version, as `server_version_num`.
    public let server: Int
    public let pgDump: String
    public let snapshot: String
    public let wal: String?
    public let startedAt: String
    public var finishedAt: String
    /// Who can read it; empty: everybody.
    public var recipients: [String]
    public let tables: [Table]
    public let sequences: [Sequence]
    /// nil where the role may not read them.
    public let largeObjects: LargeObjects?
    /// With their versions.
    public let extensions: [String: String]
    public let tablespaces: [String]
    /// The roles that own something or may do something here.
    public let neededRoles: [String]
    public let locale: DatabaseLocale
    /// The size of the database on its server.
    public let databaseBytes: Int
    /// SHA-256 of the schema as canonical text.
    public let catalog: String
    /// Settings of the database and of roles in it, as statements about `%database%`.
    public let settings: [String]
    /// The roles with their attributes and memberships, as values.
    public let roles: [String]
    public var parts: [Part]
    /// The database that it is of, as a digest of its ledger's number; nil where it has none, and in earlier backups.
    public var estate: String?
    /// Who may connect to the database; nil in earlier backups.
    public var access: DatabaseAccess?

    /// The bytes of its own parts, without those of earlier backups.
    public var ownBytes: Int { parts.filter { $0.object.hasPrefix("\(prefix)/") }.reduce(0) { $0 + $1.bytes } }
    public var bytes: Int { parts.reduce(0) { $0 + $1.bytes } }

    /// About how many bytes of the database are these tables', with their indexes: as much of it as their parts are of all
    /// rows' parts. What shares a part with them counts too.
    func estimatedBytes(of tables: Set<FetchedTable>) -> Int {
        let paths = Set(tables.map { ExactText($0.path) })
        let data = parts.filter { $0.kind == .data }
        let all = data.reduce(0) { $0 + $1.bytes }
        let wanted = data.filter { !paths.isDisjoint(with: $0.tables.map(ExactText.init)) }.reduce(0) { $0 + $1.bytes }
        return all > 0 ? Int((Double(databaseBytes) * Double(wanted) / Double(all)).rounded(.up)) : 0
    }

    /// When it was begun; an ID tells it to the second only.
    public var began: Timestamp { (try? Timestamp.fromPostgres(startedAt)) ?? .negativeInfinity }

    var prefix: String { "\(database)/\(id)" }
    static let name = "manifest.json"

    /// As it is stored: one line, and the SHA-256 of it on the next.
    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let body = Array(try encoder.encode(self))
        return body + Array("\n\(Digest.hex(Digest.of(body)))\n".utf8)
    }

    /// The same, once it was read back by the rules that it will be read by.
    ///
    /// - Throws: `BackupError.unreadable`.
    func readable(as object: String) throws -> [UInt8] {
        let bytes = try encoded()
        do {
            guard try Self.decode(bytes, object: object) == self else {
                throw BackupError.unreadable(reason: "its manifest reads back differently")
            }
        } catch BackupError.badManifest(_, let reason) {
            throw BackupError.unreadable(reason: reason)
        }
        return bytes
    }

    /// - Throws: `BackupError.badManifest` for one that was changed or cut short, or that names what is not its own.
    static func decode(_ bytes: [UInt8], object: String) throws -> Manifest {
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true)
        guard lines.count == 2, String(decoding: lines[1], as: UTF8.self) == Digest.hex(Digest.of(lines[0])) else {
            throw BackupError.badManifest(object: object, reason: "its checksum does not match")
        }
        do {
            let manifest = try JSONDecoder().decode(Manifest.self, from: Data(lines[0]))
            guard manifest.format == format else {
                throw BackupError.badManifest(object: object, reason: "its format \(manifest.format) is not supported")
            }
            if let problem = manifest.problem(as: object) {
                throw BackupError.badManifest(object: object, reason: problem)
            }
            return manifest
        } catch let error as DecodingError {
            throw BackupError.badManifest(object: object, reason: "\(error)")
        }
    }
}
