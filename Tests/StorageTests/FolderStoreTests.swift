import Foundation
import Processes
import Testing

@testable import Storage

/// A folder that others write to as well.
@Suite(.timeLimit(.minutes(1)))
struct FolderStoreTests {
    private let folder = "/tmp/reeve-folder-\(UUID().uuidString.prefix(8))"

    /// With a store in `folder/repository`, and what is none of its own beside it.
    private func withStore(_ body: (FolderStore) throws -> Void) throws {
        let manager = FileManager.default
        try manager.createDirectory(atPath: "\(folder)/repository/main/a", withIntermediateDirectories: true)
        try manager.createDirectory(atPath: "\(folder)/outside", withIntermediateDirectories: true)
        try "secret".write(toFile: "\(folder)/outside/file", atomically: true, encoding: .utf8)
        defer { try? manager.removeItem(atPath: folder) }
        try body(FolderStore("\(folder)/repository"))
    }

    private func put(_ bytes: [UInt8], _ name: String, in store: FolderStore) throws {
        let writer = try store.write(name)
        try bytes.withUnsafeBytes { try writer.write($0) }
        try writer.commit()
    }

    @Test(arguments: [
        "../outside/file", "/etc/passwd", "main/../../outside/file", "", "main//a", "main/a\0b", "main/a\nb",
    ])
    func `names that lead elsewhere are refused`(name: String) throws {
        try withStore { (store) throws in
            #expect(throws: StorageError.self) { _ = try store.read(name) }
            #expect(throws: StorageError.self) { _ = try store.write(name) }
            #expect(throws: StorageError.self) { try store.delete(name) }
            #expect(try String(contentsOfFile: "\(folder)/outside/file", encoding: .utf8) == "secret")
        }
    }

    @Test func `no link is followed, neither a file's nor a folder's`() throws {
        try withStore { (store) throws in
            let manager = FileManager.default
            let root = "\(folder)/repository/main"
            try manager.createSymbolicLink(atPath: "\(root)/a/link", withDestinationPath: "\(folder)/outside/file")
            try manager.createSymbolicLink(atPath: "\(root)/b", withDestinationPath: "\(folder)/outside")
            try put([1], "main/a/real", in: store)
            #expect(try store.list("main/").map(\.name) == ["main/a/real"])
            for name in ["main/a/link", "main/b/file"] {
                #expect(throws: StorageError.self) { _ = try store.read(name) }
            }
            #expect(throws: StorageError.self) { _ = try store.write("main/b/new") }
            #expect(throws: StorageError.self) { try store.delete("main/b/file") }
            // A link in the place of an object is replaced, and not written through.
            try put([2], "main/a/link", in: store)
            #expect(try Data(contentsOf: URL(fileURLWithPath: "\(root)/a/link")) == Data([2]))
            #expect(try String(contentsOfFile: "\(folder)/outside/file", encoding: .utf8) == "secret")
            #expect(try manager.contentsOfDirectory(atPath: "\(folder)/outside") == ["file"])
        }
    }

    @Test(arguments: ["", "/a", "/a/b", "/../b", "//a", "/."])
    func `a relative folder that is missing has the room of the working directory`(path: String) {
        let missing = "no-such-folder-\(UUID().uuidString)"
        for start in ["", "./", "../", "\(missing):/"] {
            #expect((FolderStore("\(start)\(missing)\(path)").freeBytes ?? 0) > 0)
        }
    }

    @Test func `a pipe in the place of an object holds up nobody`() throws {
        try withStore { (store) throws in
            #expect(mkfifo("\(folder)/repository/main/a/pipe", 0o600) == 0)
            let error = #expect(throws: StorageError.self) { _ = try store.read("main/a/pipe") }
            #expect(error?.description.contains("it is not a regular file") == true)
            #expect(try store.list("").isEmpty)
        }
    }

    @Test func `folders and files are their owner's alone, and what cannot be put in place is an error`() throws {
        let before = umask(0)
        defer { umask(before) }
        try withStore { (store) throws in
            let manager = FileManager.default
            let root = "\(folder)/repository/main"
            func mode(_ path: String) throws -> Int? {
                try manager.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            }
            try put([1], "main/b/x", in: store)
            #expect(try mode("\(root)/b") == 0o700 && mode("\(root)/b/x") == 0o600)
            // A folder stands where the object is to be.
            try manager.createDirectory(atPath: "\(root)/b/y/z", withIntermediateDirectories: true)
            #expect(throws: StorageError.self) { try put([1], "main/b/y", in: store) }
            let left = try store.write("main/b/w")
            left.discard()
            #expect(try Set(manager.contentsOfDirectory(atPath: "\(root)/b")) == ["x", "y"])
        }
    }

    @Test func `what is written is there whole, and what is not committed is not`() throws {
        try withStore { (store) throws in
            let bytes = [UInt8](repeating: 7, count: 200_000)
            try put(bytes, "main/b/x", in: store)
            let reader = try store.read("main/b/x")
            var all: [UInt8] = []
            while let piece = try reader.next() { all += piece }
            #expect(all == bytes)
            let left = try store.write("main/b/y")
            try bytes.withUnsafeBytes { try left.write($0) }
            #expect(try store.list("main/") == [StoredObject(name: "main/b/x", bytes: 200_000)])
            #expect(try store.clearUnfinished("other/") == 0)
            #expect(try store.clearUnfinished("main/") == 1)
            try store.delete("main/b/x")
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/repository/main/b"))
            #expect(throws: StorageError.self) { _ = try store.read("main/b/x") }
            #expect((store.freeBytes ?? 0) > 0)
            #expect((FolderStore("\(folder)/not/there").freeBytes ?? 0) > 0)
        }
    }
}
