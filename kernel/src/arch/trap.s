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
    .if vector == 14
    jmp trap_page_fault
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr

    .macro push_registers
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
    .endm

    .macro pop_registers
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
    .endm

    .macro save_vectors
    .set register, 0
    .irp name, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15
    movaps [rsp + 160 + 16 * register], \name
    .set register, register + 1
    .endr
    .endm

    .macro restore_vectors
    .set register, 0
    .irp name, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15
    movaps \name, [rsp + 160 + 16 * register]
    .set register, register + 1
    .endr
    .endm

# FXSAVE and FXRSTOR are slow under emulation, and hardly ever needed: a handler uses neither x87 nor a rounding mode, so that
# the sixteen registers are enough where the interrupted thread goes on; and whoever calls for a switch has told the compiler
# that nothing but the control words outlives the call. Only a thread that was interrupted and then switched away from is
# saved wholly (by `thread::scheduler`), and restored so.
trap_common:
    push_registers
    cmp dword ptr [rsp + 512 + 15 * 8], {switch}
    je 1f
    save_vectors
    jmp 2f
1:  fnstcw [rsp]
    stmxcsr [rsp + 24]
2:  cld
    mov rdi, rsp
    call trap_entry
    test al, al
    jnz 3f
    cmp dword ptr [rsp + 512 + 15 * 8], {switch}
    je 5f
    restore_vectors
    jmp 5f
    # Another thread's frame.
3:  cmp dword ptr [rsp + 512 + 15 * 8], {switch}
    je 4f
    fxrstor64 [rsp]
    jmp 5f
4:  fninit
    fldcw [rsp]
    ldmxcsr [rsp + 24]
5:  pop_registers
    iretq

# A page fault never switches threads.
trap_page_fault:
    push_registers
    save_vectors
    cld
    mov rdi, rsp
    call trap_entry
    restore_vectors
    pop_registers
    iretq
