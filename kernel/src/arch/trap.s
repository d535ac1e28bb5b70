# Every exception and interrupt: save everything in a TrapFrame on the vector's IST stack, call
# `trap_entry(&mut TrapFrame)`, restore everything from it. To switch threads, Rust replaces the frame.
#
# The handlers run on IST stacks because the precompiled core uses the red zone, and save the SSE state
# because it uses SSE.

    .section .text.trap, "ax", @progbits

    .align 16
    .global trap_stubs
trap_stubs:                         # 256 of 16 bytes each
    .set vector, 0
    .rept 256
    .align 16
    # 8, 10 to 14, 17, 21, 29 and 30 bring an error code.
    .if (vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    push offset vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    sub rsp, 512
    fxsave64 [rsp]
    cld
    mov rdi, rsp
    call trap_entry
    fxrstor64 [rsp]
    add rsp, 512
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# try_copy_page(from: rdi, to: rsi) -> rax: 0, or 1 if `from` cannot be read. The page-fault handler sends
# a fault between try_copy_begin and try_copy_end that it cannot resolve to try_copy_failed.
    .global try_copy_page
    .global try_copy_begin
    .global try_copy_end
    .global try_copy_failed
try_copy_page:
    mov ecx, 64
try_copy_begin:
1:  mov rax, [rdi]
    mov r8, [rdi + 8]
    mov r9, [rdi + 16]
    mov r10, [rdi + 24]
    mov [rsi], rax
    mov [rsi + 8], r8
    mov [rsi + 16], r9
    mov [rsi + 24], r10
    mov rax, [rdi + 32]
    mov r8, [rdi + 40]
    mov r9, [rdi + 48]
    mov r10, [rdi + 56]
    mov [rsi + 32], rax
    mov [rsi + 40], r8
    mov [rsi + 48], r9
    mov [rsi + 56], r10
    add rdi, 64
    add rsi, 64
    dec ecx
    jnz 1b
try_copy_end:
    xor eax, eax
    ret
try_copy_failed:
    mov eax, 1
    ret
