import Foundation
import Testing

@testable import Processes

/// What children get, and what they do not.
@Suite(.timeLimit(.minutes(1)))
struct ChildEnvironmentTests {
    private let parent = [
        "PATH": "/opt/bin::.:bin:/usr/bin", "HOME": "/home/u", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC",
        "TMPDIR": "tmp", "AWS_SECRET_ACCESS_KEY": "s1", "PGPASSWORD": "s2", "REEVE_SECRET": "s3", "LD_PRELOAD": "/x.so",
        "PGSERVICE": "here",
    ]

    @Test func `only what is fixed or asked for by name comes to a child`() {
        #expect(
            ChildEnvironment.fixed(of: parent) == [
                "PATH": "/opt/bin:/usr/bin", "HOME": "/home/u", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC",
            ])
        #expect(ChildEnvironment.fixed(of: parent, with: ["PGSERVICE", "PGHOST"])["PGSERVICE"] == "here")
        #expect(ChildEnvironment.fixed(of: [:]) == ["PATH": ChildEnvironment.usualPath])
    }

    @Test(arguments: ["", ".", "::", "bin:../x"])
    func `a PATH never means the current folder`(path: String) {
        #expect(ChildEnvironment.fixed(of: ["PATH": path]) == ["PATH": ChildEnvironment.usualPath])
    }

    @Test func `a child sees nothing of the parent's secrets, and starts in the root`() async throws {
        setenv("REEVE_TEST_SECRET", "very secret", 1)
        let outcome = try await Command("sh", ["-c", "env; pwd"]).run()
        #expect(!outcome.output.contains("secret"))
        #expect(outcome.output.hasSuffix("\n/\n"))
    }

    @Test func `a program is looked for in the child's PATH alone`() async throws {
        let folder = "/tmp/reeve-path-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try "#!/bin/sh\necho mine\n".write(toFile: "\(folder)/only-here", atomically: true, encoding: .utf8)
        chmod("\(folder)/only-here", 0o755)
        let outcome = try await Command("only-here", environment: ["PATH": folder]).run()
        #expect(outcome.output == "mine\n")
        // A folder of that name, which may be entered, is no program.
        try FileManager.default.createDirectory(
            atPath: "\(folder)/before/only-here", withIntermediateDirectories: true)
        let second = try await Command("only-here", environment: ["PATH": "\(folder)/before:\(folder)"]).run()
        #expect(second.output == "mine\n")
        await #expect(throws: CommandError.self) {
            _ = try await Command("only-here", environment: ["PATH": ":."], directory: folder).run()
        }
    }

    @Test func `an argument with a NUL is refused, and not cut`() async throws {
        let error = await #expect(throws: CommandError.self) { _ = try await Command("echo", ["a\0b"]).run() }
        #expect(error?.description.contains("NUL") == true)
    }

    @Test func `NUL and bytes that are no UTF-8 become replacement characters`() async throws {
        #expect(programText([0x61, 0, 0xff, 0x62]) == "a\u{FFFD}\u{FFFD}b")
        let script = "printf 'bad \\000\\377 end' >&2; exit 3"
        let outcome = try await Command("sh", ["-c", script]).run()
        #expect(outcome.errorOutput == "bad \u{FFFD}\u{FFFD} end")
        let error = await #expect(throws: PipelineError.self) {
            try await Pipeline([Command("sh", ["-c", script])]).run { _ in }
        }
        #expect(error?.description.utf8.contains(0) == false && error?.description.contains("bad \u{FFFD}") == true)
    }
}
